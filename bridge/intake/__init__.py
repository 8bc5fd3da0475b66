"""Use case 1: a request becomes an event and its jobs, in one commit."""
