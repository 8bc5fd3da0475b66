"""Faults and kills on a schedule, under load, on the real processes; an oracle that says what was broken."""
