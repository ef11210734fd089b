"""Set-up of everything that sightflow needs, with Python's standard library only: `python3 -m sightflow.bootstrap`."""
