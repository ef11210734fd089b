"""The command `sightflow settings`: versions of a site's settings for running jobs, by way of Kafka."""
