"""The link against real servers: away, slow, full, refusing, moving; never a wait without end, never a password shown."""

from __future__ import annotations

import socket
import ssl
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import attrs
import pytest
import trio

from demo.servers import HOST, free_ports
from tests.fakes.meter import FakeMeter
from tests.real import redis_server
from tests.real.brokers import Certificates
from tests.real.redis_server import RedisServer
from tss.core import measures
from tss.core.delivery import Retrying
from tss.core.errors import Away
from tss.core.health import Health, State
from tss.edges.redis import link as redis_link
from tss.edges.redis.link import RedisLink, open_link
from tss.settings import Redis

PASSWORD = "s3cr3t/pass@word"
QUICK = Redis(connection_timeout_secs=0.5)


@attrs.frozen
class Seen:
    meter: FakeMeter = attrs.field(factory=FakeMeter)
    health: Health = attrs.field(factory=Health)

    @property
    def state(self) -> State:
        return self.health.components["redis"].state

    @property
    def detail(self) -> str:
        return self.health.components["redis"].detail

    @property
    def up(self) -> float:
        [up] = (value for (name, _), value in self.meter.gauges.items() if name == "redis_up")
        return up


def linked(url: str, seen: Seen, **settings):
    return open_link(attrs.evolve(QUICK, url=url, **settings), "group", seen.meter, seen.health)


async def ping(link: RedisLink) -> bool:
    return bool(await link.call(lambda client: client.ping()))


async def until_up(seen: Seen) -> None:
    with trio.fail_after(15):
        while seen.state is not State.UP:
            await trio.sleep(0.02)


async def until_degraded(seen: Seen) -> None:
    with trio.fail_after(15):
        while seen.state is not State.DEGRADED:
            await trio.sleep(0.02)


async def test_it_speaks_to_redis(redis: RedisServer):
    seen = Seen()
    async with linked(redis.url + "/3", seen) as link:
        assert seen.state is State.UP and seen.up == 1
        await link.call(lambda client: client.set(link.key("a", 1), b"b"), operation="write")
        assert link.call_now(lambda client: client.get("tss:1:{group}:a:1"), operation="read") == b"b"
        assert redis.ask("EXISTS", "tss:1:{group}:a:1") == 0  # database 0
        assert len(seen.meter.observed["redis_call_seconds", ("write",)]) == 1
        assert link.key("d", 2, tag="7") == "tss:1:{group:7}:d:2"


async def test_away_at_the_start_is_no_error_and_it_comes_back_by_itself(tmp_path: Path):
    server, seen = RedisServer(tmp_path), Seen()
    async with linked(server.url, seen) as link:
        assert seen.state is State.DEGRADED and seen.up == 0
        assert seen.detail.startswith(f"Redis cannot be reached: {server.address}: ")
        tried = seen.meter.counted(measures.REDIS_ERRORS, "other", "connect")
        with pytest.raises(Away, match="cannot be reached"):
            await ping(link)
        assert seen.meter.counted(measures.REDIS_ERRORS, "other", "connect") == tried == 0  # not even tried
        with server:
            await until_up(seen)
            assert await ping(link) and seen.up == 1
        await until_degraded(seen)  # noticed though nobody asks


async def test_a_server_that_hangs_is_a_timeout_for_everybody_at_once():
    seen = Seen()
    with redis_server.running() as server:
        async with linked(server.url, seen, pool_size=2) as link:
            server.freeze()
            began = trio.current_time()
            refused = 0

            async def ask() -> None:
                nonlocal refused
                with pytest.raises(Away, match=r"^Redis connection timeout: "):
                    await ping(link)
                refused += 1

            async with trio.open_nursery() as nursery:
                for _ in range(10):
                    nursery.start_soon(ask)
            assert refused == 10
            assert trio.current_time() - began < 2  # twice the time of one, however many wait for a connection
            assert seen.detail.startswith("Redis connection timeout")
            with pytest.raises(Away, match=r"^Redis connection timeout: "):
                link.call_now(lambda client: client.ping())
            server.thaw()
            await until_up(seen)
            assert await ping(link)


async def test_probes_that_pass_do_not_open_the_way_to_calls_that_time_out(monkeypatch: pytest.MonkeyPatch):
    """A call that waits for what never comes, as one of a slow script does, while small writes are done at once."""
    monkeypatch.setattr(redis_link, "RESTING", Retrying(1.0, max_secs=60.0))
    seen = Seen()
    with redis_server.running() as server:
        async with linked(server.url, seen, connection_timeout_secs=0.2) as link:
            waited_secs, tries = 0.0, 0

            async def read(client_work) -> bool:
                nonlocal waited_secs, tries
                tries += not link.is_away
                began = trio.current_time()
                try:
                    await link.call(client_work, operation="read_decisions")
                except Away:
                    return False
                finally:
                    waited_secs += trio.current_time() - began
                return True

            began = trio.current_time()
            while trio.current_time() - began < 4:
                assert not await read(lambda client: client.blpop(["nobody fills it"], timeout=60))
                if not link.is_away:  # others work, and say nothing of this one
                    await link.call(lambda client: client.get("a"), operation="read_rules")
                await trio.sleep(0.01)
            assert 2 <= tries <= 4  # at once, after 0.1 s, after 1 s more, after 2 s more; a slow machine has fewer
            assert waited_secs < 2
            assert seen.state is State.DEGRADED
            assert "`read_decisions` failed" in seen.detail and "the next try is in" in seen.detail

            with trio.fail_after(20):
                while not await read(lambda client: client.get("a")):
                    await trio.sleep(0.01)
            assert not await read(lambda client: client.blpop(["nobody fills it"], timeout=60))
            began = trio.current_time()
            await until_up(seen)
            assert (
                trio.current_time() - began < 2
            )  # it has worked: the next trouble is a first one; else it were 4 s or more


async def test_a_call_ends_when_it_is_cancelled():
    seen = Seen()
    with redis_server.running() as server:
        async with linked(server.url, seen, connection_timeout_secs=30) as link:
            server.freeze()
            began = trio.current_time()
            with trio.move_on_after(0.2) as scope:
                await ping(link)
            assert scope.cancelled_caught
        assert trio.current_time() - began < 2  # nor does closing wait


async def test_a_full_redis_refuses_writes_alone():
    seen = Seen()
    with redis_server.running() as server:
        async with linked(server.url, seen) as link:
            server.limit_memory(1)
            with pytest.raises(Away, match=r"^Redis is full: "):
                await link.call(lambda client: client.set("a", "b"), operation="write")
            assert seen.state is State.DEGRADED
            assert await ping(link)
            assert seen.meter.counted(measures.REDIS_ERRORS, "write", "oom") == 1
            server.limit_memory(0)
            await until_up(seen)


@pytest.mark.parametrize("given", ["", "wr0ng-" + PASSWORD])
async def test_a_wrong_password_says_what_to_check_and_shows_nothing(given: str, capsys: pytest.CaptureFixture[str]):
    seen = Seen()
    with redis_server.running(password=PASSWORD) as server:
        async with linked(server.url, seen, password=given) as link:
            assert seen.state is State.DEGRADED
            assert seen.detail.startswith(f"Redis refuses us: {server.address}: ")
            assert "redis.password" in seen.detail
            with pytest.raises(Away) as refused:
                await ping(link)
            said = repr(link) + str(refused.value) + seen.detail + "".join(capsys.readouterr())
            assert "Redis refuses us" in said and PASSWORD not in said


@pytest.mark.parametrize("where", ["url", "key"])
async def test_a_password(where: str):
    seen = Seen()
    with redis_server.running(password=PASSWORD) as server:
        quoted = PASSWORD.replace("/", "%2F").replace("@", "%40")
        url = f"redis://:{quoted}@{server.address}" if where == "url" else server.url
        async with linked(url, seen, password=PASSWORD if where == "key" else "") as link:
            assert await ping(link)
            assert PASSWORD not in repr(link) and quoted not in repr(link)


async def test_a_user_without_rights_is_told_so(redis: RedisServer):
    redis.ask("ACL", "SETUSER", "reader", "on", ">pw", "~*", "+@read", "+ping")
    seen = Seen()
    async with linked(redis.url, seen, username="reader", password="pw"):
        assert "ACL" in seen.detail and seen.detail.startswith("Redis refuses us")


async def test_a_replica_takes_no_writes(redis: RedisServer):
    seen = Seen()
    with redis_server.running(arguments=("--replicaof", f"{HOST} {redis.port}")) as replica:
        async with linked(replica.url, seen):
            assert seen.detail.startswith("Redis takes no writes")


@contextmanager
def behind_tls(server: RedisServer, certificates: Certificates, *, proof: bool = False) -> Iterator[int]:
    """A port that speaks TLS and passes on what is in it, for not every server's binary has it built in."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(certificates.ca))
    context.load_cert_chain(certificates.server)
    context.verify_mode = ssl.CERT_REQUIRED if proof else ssl.CERT_NONE
    with socket.create_server((HOST, 0)) as listener:
        thread = threading.Thread(target=_serve, args=(listener, context, server.port), daemon=True)
        thread.start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)
        thread.join(5)


def _serve(listener: socket.socket, context: ssl.SSLContext, port: int) -> None:
    while True:
        try:
            plain, _ = listener.accept()
        except OSError:
            return
        threading.Thread(target=_answer, args=(plain, context, port), daemon=True).start()


def _answer(plain: socket.socket, context: ssl.SSLContext, port: int) -> None:
    """A command and its answer in turns: two threads on one TLS socket would need a lock."""
    try:
        with (
            plain,
            context.wrap_socket(plain, server_side=True) as outer,
            socket.create_connection((HOST, port)) as inner,
        ):
            while sent := outer.recv(65536):
                inner.sendall(sent)
                outer.sendall(inner.recv(65536))
    except OSError:
        return


@pytest.fixture(scope="module")
def certificates() -> Iterator[Certificates]:
    with tempfile.TemporaryDirectory() as directory:
        yield Certificates.make(Path(directory))


async def test_tls(redis: RedisServer, certificates: Certificates):
    seen = Seen()
    with behind_tls(redis, certificates) as port:
        async with linked(f"rediss://{HOST}:{port}", seen, ssl_ca_location=str(certificates.ca)) as link:
            assert await ping(link)
        async with linked(f"rediss://{HOST}:{port}", seen, ssl_verify=False) as link:
            assert await ping(link)


async def test_tls_with_a_certificate_of_ours(redis: RedisServer, certificates: Certificates):
    pem = str(certificates.server)
    ours = {"ssl_certificate_location": pem, "ssl_key_location": pem, "ssl_ca_location": str(certificates.ca)}
    seen = Seen()
    with behind_tls(redis, certificates, proof=True) as port:
        async with linked(f"rediss://{HOST}:{port}", seen, **ours) as link:
            assert await ping(link)
        async with linked(f"rediss://{HOST}:{port}", seen, ssl_ca_location=str(certificates.ca)):
            assert seen.state is State.DEGRADED


async def test_a_server_that_is_not_trusted(redis: RedisServer, certificates: Certificates):
    seen = Seen()
    with behind_tls(redis, certificates) as port:
        async with linked(f"rediss://{HOST}:{port}", seen, ssl_ca_location=str(certificates.other_ca)):
            assert seen.state is State.DEGRADED and "redis.sslCaLocation" in seen.detail


async def test_a_file_that_cannot_be_used_is_an_error_of_the_settings(tmp_path: Path):
    with pytest.raises(OSError, match="CA file cannot be used"):
        async with linked("rediss://h:1", Seen(), ssl_ca_location=str(tmp_path / "none.pem")):
            pass


async def test_sentinel_and_its_failover():
    seen = Seen()
    with redis_server.watched(password=PASSWORD) as (master, replica, sentinel):
        dead = free_ports(1)[0]
        url = f"redis://{HOST}:{dead},{sentinel.address}"  # one of them is not there
        async with linked(url, seen, sentinel_master="tss", password=PASSWORD) as link:
            await link.call(lambda client: client.set("a", "b"))
            await link.call(lambda client: client.wait(1, 1000))
            master.kill()
            with pytest.raises(Away):
                await ping(link)
            await until_up(seen)
            assert await link.call(lambda client: client.get("a")) == b"b"
            assert sentinel.master_port() == replica.port


async def test_a_master_that_the_sentinels_do_not_know():
    seen = Seen()
    with redis_server.watched() as (_, _, sentinel):
        async with linked(f"redis://{sentinel.address}", seen, sentinel_master="other"):
            assert "redis.sentinelMaster" in seen.detail


async def test_cluster():
    seen = Seen()
    with redis_server.cluster() as servers:
        async with linked(f"redis://{servers[0].address},{servers[1].address}", seen, cluster=True) as link:
            keys = [link.key("a", tag=str(number)) for number in range(20)]

            def write(client) -> list[object]:
                with client.pipeline(transaction=False) as pipe:
                    for key in keys:
                        pipe.set(key, key, ex=60)
                    return pipe.execute()

            assert await link.call(write) == [True] * 20
            for key in keys:
                assert await link.call(lambda client, key=key: client.get(key)) == key.encode()
            assert all(server.ask("DBSIZE") for server in servers)
            servers[2].kill()
            with pytest.raises(Away):
                await link.call(write)
            assert seen.state is State.DEGRADED
            servers[2].start()
            await until_up(seen)
