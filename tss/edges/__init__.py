"""The outside world: whoever needs Kafka, Redis, HTTP, a file, a signal or stderr comes in here. Only edges import client libraries."""
