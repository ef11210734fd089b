"""What is done with detections. Each capability is plain Python; only `operators.flink` knows Flink."""
