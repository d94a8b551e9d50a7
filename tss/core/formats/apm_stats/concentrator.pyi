# The compiled concentrator has the reference's interface, to the letter.

from tss.core.formats.apm_stats.reference import Concentrator as Concentrator
