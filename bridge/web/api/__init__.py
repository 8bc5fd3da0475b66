"""The API: stored events, jobs and refusals as JSON, and changes of them, for programs."""
