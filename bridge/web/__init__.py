"""The Flask application: webhooks and health checks."""
