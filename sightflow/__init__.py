"""The command line and the local stack of sightflow."""

__version__ = "0.1.0"
