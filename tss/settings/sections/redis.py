"""`redis`: the memory that replicas share."""

from attrs import frozen

from tss.settings.keys import key
from tss.settings.kinds.numbers import positive_secs, truth, whole
from tss.settings.kinds.redis import redis_url
from tss.settings.kinds.texts import text
from tss.settings.kinds.units import BYTES

_WITH_URL = "Has an effect only with `url`."


@frozen(kw_only=True)
class Redis:
    """Memory shared by the replicas."""

    url: str = key(
        "",
        redis_url,
        "Address, redis://USER:PASSWORD@HOST:PORT/DATABASE, or rediss:// for TLS; empty: no Redis. Several hosts, with commas between, are Sentinels (`sentinelMaster`) or nodes of a Cluster (`cluster`). Redis away is no error: the replica goes on without, and comes back by itself.",
    )
    username: str = key("", text(), f"User, in place of that of `url`. {_WITH_URL}")
    password: str = key("", text(), f"Password, in place of that of `url`. {_WITH_URL}", secret=True)
    pool_size: int = key(10, whole(1, 1000), f"Calls under way at a time, each on a connection of its own. {_WITH_URL}")
    connection_timeout_secs: float = key(
        5, positive_secs, f"Time to connect, and for an answer; after that Redis is away. {_WITH_URL}"
    )
    sentinel_master: str = key("", text(), f"Name of the master that the Sentinels at `url` watch. {_WITH_URL}")
    sentinel_password: str = key("", text(), "Password of the Sentinels themselves, where they have one.", secret=True)
    cluster: bool = key(False, truth, f"The hosts of `url` are nodes of a Redis Cluster. {_WITH_URL}")
    ssl_ca_location: str = key(
        "", text(), "File with CA certificates to trust beside the system's (PEM); needs rediss://."
    )
    ssl_certificate_location: str = key("", text(), "File with our certificate (PEM); needs `sslKeyLocation`.")
    ssl_key_location: str = key("", text(), "File with our key (PEM).")
    ssl_key_password: str = key("", text(), "Password of our key.", secret=True)
    ssl_verify: bool = key(True, truth, "Verify the server's certificate.")
    decision_ttl_secs: float = key(3600, positive_secs, f"Decisions are remembered for this long. {_WITH_URL}")
    remember_dropped: bool = key(
        False,
        truth,
        f"Remember dropped traces, too, in 80 MiB of Redis for the whole group: 4 bytes each. {_WITH_URL}",
    )
    max_parked_bytes: int = key(
        268_435_456,
        whole(1, units=BYTES),
        f"Bytes of parked traces of one partition at most; more stay in memory. {_WITH_URL}",
    )
