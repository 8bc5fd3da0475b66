"""The demo, and the stand-in for TheEye: they run on this machine alone."""
