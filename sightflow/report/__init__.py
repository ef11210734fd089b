"""`sightflow report`: one self-contained HTML page of what came out of one camera, read back from Kafka and InfluxDB."""
