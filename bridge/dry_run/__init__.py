"""Run a table without sending: routing tests, previews, recorded tests. Pure."""
