"""The server processes: gunicorn with its worker class, and delivery alone."""
