"""Points to InfluxDB, so that after any crash the database equals that of an undisturbed run."""
