"""One module for each section of tss.yaml: a class, with a line for each key."""
