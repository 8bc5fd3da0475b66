"""A webhook-to-job bridge: webhooks in, authentic and stored; jobs out, at TheEye."""
