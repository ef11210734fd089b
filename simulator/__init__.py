"""Scenes with known truth, bad input and load: everything that plays the part of cameras in tests, bench and demos."""
