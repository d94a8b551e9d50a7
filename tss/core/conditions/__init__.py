"""Conditions on traces: the language, the programs that the scanner answers while it reads, and the facts that remain."""
