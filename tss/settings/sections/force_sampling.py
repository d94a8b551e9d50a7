"""`forceSampling`: temporary rules that keep or drop."""

from attrs import frozen

from tss.settings.keys import key
from tss.settings.kinds.numbers import WEEK_SECS, number, port, whole
from tss.settings.kinds.texts import filled, text
from tss.settings.kinds.units import SECONDS

_TOKEN_TOO = "Has an effect only with `adminToken`."  # noqa: S105  # about the token, and none
_YEAR_SECS = 52 * WEEK_SECS


@frozen(kw_only=True)
class ForceSampling:
    """Rules that keep or drop whatever matches, for a while: docs/force-rules.md. On with a token; the rules are in Redis."""

    admin_token: str = key(
        "",
        text("16 letters, digits or signs of ASCII or more, without spaces", r"[!-~]{16,}|"),
        "Token that /admin/force-rules and /admin/exporters ask for (`Authorization: Bearer`); empty: there are no such pages, and no rules.",
        secret=True,
    )
    admin_port: int = key(
        0,
        port,
        "Port of /admin/force-rules and /admin/exporters alone, which then are not on `observability.healthPort`; 0: they are there, "
        "beside the probes. "
        f"{_TOKEN_TOO}",
    )
    admin_addr: str = key(
        "127.0.0.1",
        filled,
        "Address that `adminPort` listens on; the default is reached from within the pod and by `kubectl port-forward` only. "
        "Has an effect only with `adminPort`.",
    )
    default_duration_secs: float = key(
        3600, number(0, _YEAR_SECS, above=True, units=SECONDS), f"How long a rule lasts that does not say. {_TOKEN_TOO}"
    )
    max_duration_secs: float = key(
        WEEK_SECS,
        number(0, _YEAR_SECS, above=True, units=SECONDS),
        f"No rule ends later than this from now. {_TOKEN_TOO}",
    )
    max_rules: int = key(100, whole(1, 1000), f"Rules at a time at most. {_TOKEN_TOO}")
    poll_secs: float = key(
        5,
        number(0.1, 3600, units=SECONDS),
        f"Time between two looks at Redis, should a change not have been heard of. {_TOKEN_TOO}",
    )
