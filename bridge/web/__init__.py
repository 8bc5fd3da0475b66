"""The Flask application: webhooks in, health out."""
