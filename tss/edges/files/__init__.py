"""Files that grow line by line or are written whole: whoever keeps traces or dead letters on a disk comes in here."""
