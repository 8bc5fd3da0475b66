"""The Flask application: webhooks, health checks, metrics, the page and the API."""

from __future__ import annotations

from flask import Flask, abort

from bridge.app import Bridge
from bridge.web.api.blueprint import add_api
from bridge.web.health import health
from bridge.web.hooks import Hooks
from bridge.web.metrics import metrics_page
from bridge.web.page.blueprint import add_page


def create_app(bridge: Bridge) -> Flask:
    """Return the WSGI application of one process."""
    app = Flask(__name__, static_folder=None)
    # Otherwise Flask redirects /hooks//github, which some senders count as delivered.
    app.url_map.merge_slashes = False
    # For OPTIONS alone: Hooks answers the other methods.
    app.add_url_rule(
        "/hooks/<source>", "hooks", lambda **_: abort(405), methods=["POST"], strict_slashes=False
    )
    app.register_blueprint(health(bridge))
    app.register_blueprint(metrics_page(bridge))
    add_page(app, bridge)
    add_api(app, bridge)
    app.wsgi_app = Hooks(bridge.receiver, bridge.settings, app.wsgi_app)  # type: ignore[method-assign]  # as Flask adds WSGI middleware
    return app
