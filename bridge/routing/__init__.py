"""From an event to its jobs: conditions, routes and the routing table. Pure."""
