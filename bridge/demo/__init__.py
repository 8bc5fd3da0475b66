"""What runs on this machine alone: a stand-in for TheEye, for the demo and for the tests."""
