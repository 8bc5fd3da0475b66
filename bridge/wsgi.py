"""The door for a WSGI server: ``gunicorn -c python:bridge.server bridge.wsgi:app``.

Importing it wires one process and, unless BRIDGE_DELIVER is false, begins to deliver.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from bridge.app import build
from bridge.errors import BridgeError
from bridge.settings import Settings
from bridge.web import create_app

if TYPE_CHECKING:
    from flask import Flask


def _start() -> Flask:
    try:
        bridge = build(Settings.from_environ())
        bridge.start(deliver=bridge.settings.deliver)
    except BridgeError as error:
        raise SystemExit(str(error)) from None
    app = create_app(bridge)
    app.extensions["bridge"] = bridge
    return app


app = _start()
