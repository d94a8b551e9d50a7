"""Kafka as a source: whoever reads the input topic, commits its offsets, or asks about the topic or the group, comes in here."""
