"""Jobs, events and explanations as text for people and as JSON for programs."""
