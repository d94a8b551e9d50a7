"""A record's value, in whatever encoding, to its fragments and scan_errors; and which scanner does it, chosen here, once."""

from tss.core.otlp.envelope import LINEAGE_SPANS
from tss.core.otlp.fragment import Encoding, Scan, ScanError
from tss.core.otlp.lookup import NOTHING, Lookup

try:
    from tss.core.otlp.lineage import Lineage
    from tss.core.otlp.scanner import Scanner

    SCANNER = "compiled"
except ImportError:  # there was no C compiler when this was installed
    from tss.core.otlp.reference import Lineage, Scanner

    SCANNER = "protobuf"

__all__ = ["LINEAGE_SPANS", "SCANNER", "Lineage", "Scanner", "scan"]


def scan(value: bytes | None, encoding: Encoding, lookup: Lookup = NOTHING) -> Scan:
    """Take one record's value apart by trace. Never raises, whatever the bytes.

    Whoever has many records makes a `Scanner` once and asks that.
    """
    scan_errors: list[ScanError] = []
    fragments = Scanner(lookup).fragments(value, encoding, scan_errors)
    return Scan(fragments, tuple(scan_errors))
