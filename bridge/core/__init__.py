"""The nouns of the bridge, and rules about them. Pure: no I/O, no clock, no threads."""
