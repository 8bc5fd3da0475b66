"""A webhook-to-job bridge: it receives webhooks, checks their signatures, and starts jobs at TheEye."""

#: pyproject.toml reads it.
__version__ = "0.4.0"
