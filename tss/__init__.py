"""Tail Sampling Selector: reads spans from Kafka, decides once per trace, sends on what it keeps."""

import os

# Of protobuf's library, read when it is imported. A value that it does not know would end every command with a traceback, and
# `python` makes it ten times slower. There is nothing to choose: one that is not fit for us is not installed.
os.environ.pop("PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION", None)

__version__ = "0.1.0"
