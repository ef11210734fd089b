"""Capabilities composed into what one Flink operator does, still in plain Python."""
