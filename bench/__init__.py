"""Spans per CPU-second of the daemon, beside a bare consumer on the same topic: `python -m bench --help`."""
