"""What changes the daemon from inside can do so only where it is interpreted."""

from tss.core import otlp

collect_ignore = [] if otlp.SCANNER == "protobuf" else ["test_the_laws_bite.py"]
