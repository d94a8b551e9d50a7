"""Kafka, written exactly once: the transactions that add output records and move the offsets in one step."""
