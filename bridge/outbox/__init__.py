"""The durable store of events, jobs and attempts."""
