"""GunicornLogger: gunicorn's log lines go through the bridge's log and its mask."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from gunicorn.glogging import Logger

from bridge.core.secrets import Mask, Secret
from bridge.process.log import configure_server
from bridge.process.log_fields import Fields
from bridge.process.settings import Settings

#: gunicorn's log settings that the bridge ignores: each would write lines past the mask, or parts of requests
#: that may contain a secret.
UNUSED_LOG_SETTINGS = (
    "access_log_format", "accesslog", "syslog", "logconfig", "logconfig_dict", "logconfig_json",
    "statsd_host",
)  # fmt: skip


class GunicornLogger(Logger):
    """Writes gunicorn's lines to the bridge's log, whatever gunicorn's log settings say.

    The access log has lines of the bridge's own: the query string and headers of a request may contain
    secrets.
    """

    def setup(self, cfg: Any) -> None:
        """Read the level and whether the access log is on; create none of gunicorn's handlers."""
        self.cfg = cfg
        self.error_log.setLevel(logging.getLevelNamesMapping().get(cfg.loglevel.upper(), logging.INFO))
        self.access_log.setLevel(logging.INFO)
        for each in (self.error_log, self.access_log):
            each.handlers.clear()
            each.propagate = True
        if cfg.env:  # at DEBUG, gunicorn logs its settings, and --env may set a secret
            settings = Settings.from_environ()
            mask = Mask([*settings.secrets, *map(Secret, cfg.env.values())])
            configure_server(settings, mask)
        self.reopen_files()  # with capture_output, standard error goes to the file of errorlog
        neutral = {name: (cfg.settings[name].default, "-") for name in UNUSED_LOG_SETTINGS}
        unused = [name for name, values in neutral.items() if getattr(cfg, name) not in values]
        if unused:
            text = "gunicorn's settings are ignored, because the bridge writes the log: %(reason)s"
            self.warning(text, Fields("setting", reason=", ".join(unused)))

    def access(self, resp: Any, req: Any, environ: Mapping[str, Any], request_time: timedelta) -> None:
        """Log one request: address, method, path, status, bytes of the answer, seconds."""
        del req
        if not self.access_log_enabled:
            return
        address = str(environ.get("REMOTE_ADDR") or "-").removeprefix("::ffff:")  # on a socket of IPv6
        # An encoded ? may begin a query that was encoded twice. WSGI decodes a path as Latin-1, in which the
        # mask would not find a secret.
        path = str(environ.get("PATH_INFO", "-")).partition("?")[0].encode("latin-1")
        self.access_log.info(
            "%(client)s %(method)s %(path)s %(status)s, %(bytes)s bytes, %(seconds).3f s",
            Fields(
                "access", client=address, method=environ.get("REQUEST_METHOD"),
                path=path.decode("utf-8", "replace"), status=resp.status_code, bytes=resp.sent,
                seconds=round(request_time.total_seconds(), 3),
            ),
        )  # fmt: skip
