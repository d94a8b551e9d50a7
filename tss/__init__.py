"""Tail Sampling Selector: reads spans from Kafka, decides once per trace, sends on what it keeps."""

__version__ = "0.1.0"
