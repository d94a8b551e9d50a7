"""The outside world: the only importers of client libraries."""
