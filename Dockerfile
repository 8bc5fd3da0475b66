# docs/how-to/docker.md explains how to run it. The table is not part of the image: mount it at /config.
ARG PYTHON=3.11-slim-bookworm

FROM python:${PYTHON} AS build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python -m venv /opt/bridge
WORKDIR /src
COPY requirements.txt ./
RUN /opt/bridge/bin/pip install --require-hashes --only-binary :all: -r requirements.txt
COPY LICENSE README.md pyproject.toml ./
COPY bridge bridge
RUN /opt/bridge/bin/pip install --no-deps . && /opt/bridge/bin/pip uninstall --yes pip setuptools
# The user of the image is a number, which needs no entry in /etc/passwd.
RUN install -d -m 700 -o 10001 -g 10001 /data

FROM python:${PYTHON}
COPY --from=build /opt/bridge /opt/bridge
COPY --from=build --chown=10001:10001 /data /data
ENV PATH=/opt/bridge/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
ENV BRIDGE_CONFIG=/config DATABASE_URL=sqlite:////data/bridge.db
USER 10001:10001
WORKDIR /data
EXPOSE 8000
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s CMD ["python", "-c", "import os, urllib.request as u; u.urlopen('http://127.0.0.1:%s/healthz' % os.environ.get('PORT', 8000), timeout=4)"]
ENTRYPOINT ["theeye-bridge"]
CMD ["serve"]
