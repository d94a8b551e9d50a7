# The compiled concentrator has exactly the interface of the reference.

from tss.core.formats.apm_stats.reference import Concentrator as Concentrator
