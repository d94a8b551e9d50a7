"""Ports that the daemon listens on, and who may read there."""

from collections.abc import Iterator

from tss.settings.checks.conflict import Conflict
from tss.settings.model import Settings
from tss.settings.sections.observability import TOKEN

_EVERYWHERE = ("0.0.0.0", "::")


def conflicts(settings: Settings) -> Iterator[Conflict]:
    seen, force = settings.observability, settings.force_sampling
    if seen.read == TOKEN and not seen.read_token:
        keys = ("observability.readToken", "observability.read")
        yield Conflict(keys, "nothing", "a token, since observability.read is token")
    taken = [
        ("observability.metricsPort", seen.enable_prometheus, seen.metrics_addr, seen.metrics_port),
        ("observability.healthPort", seen.enable_health_check, seen.health_addr, seen.health_port),
        ("forceSampling.adminPort", bool(force.admin_token), force.admin_addr, force.admin_port),
    ]
    for number, (key, is_used, address, port) in enumerate(taken):
        for other, other_is_used, other_address, other_port in taken[:number]:
            same = address == other_address or address in _EVERYWHERE or other_address in _EVERYWHERE
            if is_used and other_is_used and same and port == other_port != 0:
                yield Conflict((key, other), str(port), f"another port than {other} on the same address")
