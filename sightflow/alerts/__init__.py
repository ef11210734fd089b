"""The command `sightflow alerts`: what people say to alerts of running jobs, by way of Kafka."""
