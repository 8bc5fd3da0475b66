"""The senders of webhooks, one file each. Pure."""
