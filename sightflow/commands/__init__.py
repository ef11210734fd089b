"""The commands of `sightflow`, one module each."""
