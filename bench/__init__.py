"""Benchmarks: each answers one question, prints its machine, and says what it measured as well as how fast it was."""
