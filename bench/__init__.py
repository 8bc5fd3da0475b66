"""The bench: the bridge beside other receivers of webhooks, on one machine, asked in turn."""
