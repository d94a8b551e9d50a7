"""State that several tasks share, such as the partitions that are assigned. It may use the loop's clock and the log, and runs nothing."""
