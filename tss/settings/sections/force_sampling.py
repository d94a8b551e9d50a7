"""`forceSampling`: temporary rules that keep or drop."""

from attrs import frozen

from tss.settings.keys import key
from tss.settings.kinds.numbers import WEEK_SECS, number, port, whole
from tss.settings.kinds.texts import filled, token
from tss.settings.kinds.units import SECONDS

_IF_TOKEN = "Has an effect only with `adminToken`."  # noqa: S105  # a sentence about the token
_YEAR_SECS = 52 * WEEK_SECS


@frozen(kw_only=True)
class ForceSampling:
    """Temporary rules that keep or drop all matching traces: see docs/force-rules.md. A token turns them on; the rules are in Redis."""

    admin_token: str = key(
        "",
        token,
        "Token for /admin/policies, /admin/force-rules and /admin/exporters (`Authorization: Bearer`). Empty: these pages and the rules "
        "are off.",
        secret=True,
    )
    admin_port: int = key(
        0,
        port,
        "Separate port for the pages below /admin. 0: they are on `observability.healthPort`, together with the probes. "
        f"{_IF_TOKEN}",
    )
    admin_addr: str = key(
        "127.0.0.1",
        filled,
        "Address that `adminPort` listens on. The default can only be reached from inside the pod and by `kubectl port-forward`. "
        "Has an effect only with `adminPort`.",
    )
    default_duration_secs: float = key(
        3600,
        number(0, _YEAR_SECS, above=True, units=SECONDS),
        f"How long a rule lasts if it has no duration of its own. {_IF_TOKEN}",
    )
    max_duration_secs: float = key(
        WEEK_SECS,
        number(0, _YEAR_SECS, above=True, units=SECONDS),
        f"The longest duration of a rule, from the time it is made. {_IF_TOKEN}",
    )
    max_rules: int = key(100, whole(1, 1000), f"The most rules at the same time. {_IF_TOKEN}")
    poll_secs: float = key(
        5,
        number(0.1, 3600, units=SECONDS),
        f"Time between two reads of the rules from Redis, in case a notification of a change was lost. {_IF_TOKEN}",
    )
