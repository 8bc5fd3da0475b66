"""A week of production: faults, edits, an upgrade and backups under traffic, and every alert rule."""
