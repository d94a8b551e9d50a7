"""`redis`: the memory that replicas share."""

from attrs import frozen

from tss.settings.keys import key
from tss.settings.kinds.numbers import positive_secs, truth, whole
from tss.settings.kinds.redis import redis_url
from tss.settings.kinds.texts import text
from tss.settings.kinds.units import BYTES

_IF_URL = "Has an effect only with `url`."


@frozen(kw_only=True)
class Redis:
    """Memory shared by the replicas."""

    url: str = key(
        "",
        redis_url,
        "Address: redis://USER:PASSWORD@HOST:PORT/DATABASE, or rediss:// for TLS. Empty: no Redis. Several hosts, separated by commas, are Sentinels (with `sentinelMaster`) or nodes of a Redis Cluster (with `cluster`). If Redis does not answer, the replica continues without it and reconnects automatically.",
    )
    username: str = key("", text(), f"User; replaces the user in `url`. {_IF_URL}")
    password: str = key("", text(), f"Password; replaces the password in `url`. {_IF_URL}", secret=True)
    pool_size: int = key(10, whole(1, 1000), f"The most concurrent calls. Each call has its own connection. {_IF_URL}")
    connection_timeout_secs: float = key(
        5,
        positive_secs,
        f"Time limit for a connection and for an answer. After it Redis counts as unreachable. {_IF_URL}",
    )
    sentinel_master: str = key("", text(), f"Name of the master that the Sentinels in `url` watch. {_IF_URL}")
    sentinel_password: str = key("", text(), "Password of the Sentinels, if they have one.", secret=True)
    cluster: bool = key(False, truth, f"The hosts in `url` are nodes of a Redis Cluster. {_IF_URL}")
    ssl_ca_location: str = key(
        "", text(), "File with CA certificates to trust in addition to those of the system (PEM). Needs rediss://."
    )
    ssl_certificate_location: str = key("", text(), "File with the client's certificate (PEM). Needs `sslKeyLocation`.")
    ssl_key_location: str = key("", text(), "File with the client's key (PEM).")
    ssl_key_password: str = key("", text(), "Password of the client's key.", secret=True)
    ssl_verify: bool = key(True, truth, "Verify the server's certificate.")
    decision_ttl_secs: float = key(3600, positive_secs, f"Decisions are remembered for this long. {_IF_URL}")
    remember_dropped: bool = key(
        False,
        truth,
        f"Remember dropped traces too. They take 4 bytes each, 80 MiB of Redis for the whole consumer group. {_IF_URL}",
    )
    max_parked_bytes: int = key(
        268_435_456,
        whole(1, units=BYTES),
        f"The most bytes that one partition parks in Redis. Further traces stay in memory. {_IF_URL}",
    )
