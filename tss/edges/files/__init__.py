"""Files: whoever keeps traces or dead letters on a disk comes in here. They grow line by line or are written whole."""
