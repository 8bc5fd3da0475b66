"""TheEye's contract: the request of a job and the meaning of an answer. Pure."""
