"""Kafka, read: who needs records, offsets, or to know what a topic and a group are, comes in here."""
