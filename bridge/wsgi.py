"""The WSGI application: ``gunicorn -c python:bridge.server.gunicorn_config bridge.wsgi:app``.

To import it starts one process, which delivers unless BRIDGE_DELIVER is false.
"""

from __future__ import annotations

import logging
import os
import sys
from contextvars import copy_context
from typing import TYPE_CHECKING

from bridge.app import build, last_valid_table
from bridge.core.errors import BridgeError, ServiceUnavailable
from bridge.process.log_fields import Fields
from bridge.process.settings import Settings
from bridge.web.application import create_app

if TYPE_CHECKING:
    from flask import Flask

log = logging.getLogger(__name__)

#: gunicorn's exit status of a process that cannot load the application; its master ends too.
APP_LOAD_ERROR = 4
WRONG_PROCESS = (
    "the bridge starts only in its own workers: use python -m bridge serve without preload_app, check_config"
)
FORKED_AFTER_START = (
    "this process was forked after the bridge had started: load the application after the fork"
)


def _start() -> Flask:
    # WebWorker sets this variable; gunicorn's other workers and its master do not.
    if "gunicorn.arbiter" in sys.modules and last_valid_table not in copy_context():
        print(WRONG_PROCESS, file=sys.stderr)  # noqa: T201 - no log is configured here
        raise SystemExit(APP_LOAD_ERROR)
    try:
        bridge = build(Settings.from_environ())
        bridge.start(deliver=bridge.settings.deliver)
    except BridgeError as error:
        raise SystemExit(str(error)) from None
    app = create_app(bridge)
    app.extensions["bridge"] = bridge
    pid = os.getpid()

    @app.before_request
    def refuse_after_fork() -> None:
        # Threads do not survive a fork, and processes must not share a connection to the store.
        if os.getpid() != pid:
            log.error(FORKED_AFTER_START, Fields("setting"))
            raise ServiceUnavailable(FORKED_AFTER_START)

    return app


app = _start()
