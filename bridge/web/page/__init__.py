"""The page: what came in, why it ran or not, and how to set it right."""
