"""What each process needs: settings, clock, log, watchdog."""
