"""Flink jobs. Each stage is a file with `build`; `suite` composes them into one job."""
