"""Scans a record's value in any encoding. The compiled scanner is chosen here if there is one, else the reference."""

from tss.core.conditions.program import ASKS_NOTHING, Program
from tss.core.otlp.envelope import LINEAGE_SPANS
from tss.core.otlp.fragment import Encoding, Scan, ScanError

try:
    from tss.core.otlp.lineage import Lineage
    from tss.core.otlp.records import Records
    from tss.core.otlp.scanner import Scanner

    SCANNER = "compiled"
except ImportError:  # there was no C compiler when this was installed
    from tss.core.otlp.plain_records import Records
    from tss.core.otlp.reference import Lineage, Scanner

    SCANNER = "protobuf"

__all__ = ["LINEAGE_SPANS", "SCANNER", "Lineage", "Records", "Scanner", "scan"]


def scan(value: bytes | None, encoding: Encoding, program: Program = ASKS_NOTHING) -> Scan:
    """Split one record's value by trace. Never raises.

    For many records, make one `Scanner` and use it for all of them.
    """
    scan_errors: list[ScanError] = []
    fragments = Scanner(program).fragments(value, encoding, scan_errors)
    return Scan(fragments, tuple(scan_errors))
