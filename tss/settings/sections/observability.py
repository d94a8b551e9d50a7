"""`observability`: logs, metrics, health."""

from attrs import Factory, frozen

from tss.settings.keys import key
from tss.settings.kinds.numbers import port, truth, whole
from tss.settings.kinds.texts import choice, filled, token

OFF, LOCAL, TOKEN, OPEN = "off", "local", "token", "open"
"""Who may read what the pages under /api say of traces."""


@frozen(kw_only=True)
class Observability:
    """Logs, metrics and health of the daemon."""

    log_level: str = key(
        "info",
        choice("debug", "info", "warning", "error", aliases={"warn": "warning"}),
        "The lowest level that is logged. warn means warning.",
    )
    json_logging: bool = key(True, truth, "Log one JSON object per line. With false, log text for a terminal.")
    enable_prometheus: bool = key(True, truth, "Serve /metrics on `metricsPort`.")
    metrics_port: int = key(9090, port, "Port of /metrics. 0: any free port.")
    metrics_addr: str = key("0.0.0.0", filled, "Address that /metrics listens on.")
    enable_health_check: bool = key(True, truth, "Serve /health on `healthPort`.")
    health_port: int = key(8080, port, "Port of /health. 0: any free port.")
    health_addr: str = key("0.0.0.0", filled, "Address that /health listens on.")
    read_token: str = key(
        "",
        token,
        "Token for the pages under /api, such as /api/traces/ID (`Authorization: Bearer`).",
        secret=True,
    )
    read: str = key(
        Factory(lambda self: TOKEN if self.read_token else LOCAL, takes_self=True),
        choice(OFF, LOCAL, TOKEN, OPEN),
        "Who may read the pages under /api on `healthPort`, which say what was decided about traces. `off`: nobody. `local`: whoever "
        "connects over the loopback interface, as `kubectl port-forward` does; a proxy beside the daemon counts as local. `token`: "
        "whoever sends `readToken`. `open`: everybody who reaches the port.",
        default_doc="`token` if there is a `readToken`; else `local`",
    )
    max_services: int = key(
        200,
        whole(0, 2_000),
        "How many services have series of their own in `service_traces_total` and its like: the first that are met. The others are counted together as `tss.other`.",
    )
    service_name: str = key("tail-sampling-selector", filled, "Name of the service in logs and metrics.")
