"""Use case 1: a webhook becomes an event and its jobs, in one commit."""
