"""Fuzzing the scanner: compiled and reference find the same in any bytes, and the compiled one stays within its memory.

`python -m fuzz` compares the two on as many cases as one likes; `python -m fuzz.sanitized` lets libFuzzer look for new
paths through a build with AddressSanitizer.
"""
