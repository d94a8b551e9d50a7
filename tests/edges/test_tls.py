"""TLS in both directions against a real server: who is trusted, who we are, and what is wrong with a file."""

from __future__ import annotations

import os
import ssl
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
import trustme
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from tests.edges.http.test_otlphttp import exporter
from tests.edges.traces import span_ids, trace
from tests.faulty import drive, lost
from tests.sinks import OtlpSink
from tss.core import measures
from tss.core.delivery import Accepted, Again, Misconfigured, Outcome, Retrying


@pytest.fixture(scope="module")
def authority():
    return trustme.CA()


@pytest.fixture(scope="module")
def stranger():
    return trustme.CA()


@pytest.fixture
def sink(authority):
    """Demands a certificate of its own authority."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    authority.configure_trust(context)
    context.verify_mode = ssl.CERT_REQUIRED
    with OtlpSink(tls=context) as sink:
        yield sink


class Files:
    """PEM files of an authority and of a client, as an operator has them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def of(self, name: str, *blobs: trustme.Blob) -> str:
        path = self.folder / name
        path.write_bytes(b"".join(blob.bytes() for blob in blobs))
        return str(path)

    def settings(self, authority: trustme.CA, client: trustme.LeafCert) -> dict[str, str]:
        return {
            "ssl_ca_location": self.of("ca.pem", authority.cert_pem),
            "ssl_certificate_location": self.of("cert.pem", *client.cert_chain_pems),
            "ssl_key_location": self.of("key.pem", client.private_key_pem),
        }


@pytest.fixture
def files(tmp_path):
    return Files(tmp_path)


async def outcome(sink: OtlpSink, **settings) -> Outcome:
    async with exporter(sink.url, **settings) as destination:
        return await destination.send([trace(1)])


async def test_a_client_certificate_is_shown(sink, authority, files):
    assert await outcome(sink, **files.settings(authority, authority.issue_cert("tss"))) == Accepted()
    assert sink.spans == span_ids([trace(1)])


async def test_certificates_between_go_along(sink, authority, files):
    between = authority.create_child_ca()
    assert await outcome(sink, **files.settings(authority, between.issue_cert("tss"))) == Accepted()


def with_password(path: str, password: bytes) -> None:
    key = load_pem_private_key(Path(path).read_bytes(), None)
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(password))
    Path(path).write_bytes(pem)


async def test_a_key_with_a_password(sink, authority, files):
    settings = files.settings(authority, authority.issue_cert("tss"))
    with_password(settings["ssl_key_location"], b"secret")
    assert await outcome(sink, **settings, ssl_key_password="secret") == Accepted()


async def test_one_file_may_have_both(sink, authority, files):
    client = authority.issue_cert("tss")
    settings = files.settings(authority, client)
    both = files.of("both.pem", client.private_key_and_cert_chain_pem)
    assert await outcome(sink, **settings | {"ssl_certificate_location": both, "ssl_key_location": both}) == Accepted()


async def test_without_a_certificate_nothing_is_lost(sink, authority, files):
    """The batch is held, and probed slowly: a setting is wrong, here or there."""
    told = await outcome(sink, ssl_ca_location=files.of("ca.pem", authority.cert_pem))
    check_refused(told, "certificate required")
    assert sink.spans == set()


def check_refused(told: Outcome, said: str) -> None:
    """TLS 1.3 tells only after the handshake, when the connection may be reset before the alert is read."""
    assert isinstance(told, Misconfigured | Again)
    if told.reason == "network":
        assert isinstance(told, Again)
    else:
        assert isinstance(told, Misconfigured) and told.reason == "tls" and said in told.detail


@pytest.mark.parametrize("sort", ["of another authority", "expired"])
async def test_a_certificate_that_is_not_accepted(sink, authority, stranger, files, sort):
    bad = stranger.issue_cert("tss") if sort != "expired" else expired(authority, "tss")
    told = await outcome(sink, **files.settings(authority, bad))
    check_refused(told, "certificate expired" if sort == "expired" else "unknown ca")
    assert sink.spans == set()


def expired(authority: trustme.CA, name: str) -> trustme.LeafCert:
    return authority.issue_cert(
        name, not_before=datetime(2019, 1, 1, tzinfo=UTC), not_after=datetime(2020, 1, 1, tzinfo=UTC)
    )


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda authority, stranger: stranger.issue_cert("127.0.0.1"), "unable to get local issuer certificate"),
        (lambda authority, stranger: expired(authority, "127.0.0.1"), "certificate has expired"),
        (lambda authority, stranger: authority.issue_cert("elsewhere.example"), "IP address mismatch"),
    ],
    ids=["another authority", "expired", "another name"],
)
async def test_a_server_that_is_not_trusted(authority, stranger, files, make: Callable, said):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    make(authority, stranger).configure_cert(context)
    ca = files.of("ca.pem", authority.cert_pem)
    with OtlpSink(tls=context) as sink:
        told = await outcome(sink, ssl_ca_location=ca)
        assert isinstance(told, Misconfigured) and told.reason == "tls" and said in told.detail
        assert sink.spans == set()
        assert await outcome(sink, ssl_verify=False) == Accepted()


async def test_each_endpoint_has_certificates_of_its_own(sink, authority, stranger, files):
    """Two exporters side by side; neither shows the other's."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    stranger.issue_cert("127.0.0.1").configure_cert(context)
    stranger.configure_trust(context)
    context.verify_mode = ssl.CERT_REQUIRED
    (other := Files(files.folder / "other")).folder.mkdir()
    sent = [trace(1), trace(2)]
    with OtlpSink(tls=context) as further:
        async with (
            exporter(sink.url, name="one", **files.settings(authority, authority.issue_cert("tss"))) as one,
            exporter(further.url, name="other", **other.settings(stranger, stranger.issue_cert("tss"))) as two,
        ):
            driven = await drive([one, two], [sent])
        assert lost(driven, "one", sink.spans, sent) == lost(driven, "other", further.spans, sent) == set()


async def test_a_server_that_learns_to_trust_us_gets_what_waited(authority, files):
    """Mended over there, it goes on by itself."""
    client = authority.issue_cert("tss")
    sent = [trace(1)]
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    context.verify_mode = ssl.CERT_REQUIRED
    with OtlpSink(tls=context) as sink:
        async with exporter(sink.url, **files.settings(authority, client)) as destination:
            destination.retrying = Retrying(0.01, max_secs=0.05, probe_secs=0.05)
            send = destination.send

            async def mended_after_the_first(traces):
                told = await send(traces)
                authority.configure_trust(context)
                return told

            destination.send = mended_after_the_first  # type: ignore[method-assign]
            driven = await drive([destination], [sent])
    assert sink.spans == span_ids(sent)
    assert driven.letters.letters == []
    assert driven.meter.counted(measures.EXPORT_ERRORS) == 1


def spoil_missing_cert(settings: dict[str, str]) -> str:
    Path(settings["ssl_certificate_location"]).unlink()
    return settings["ssl_certificate_location"]


def spoil_missing_key(settings: dict[str, str]) -> str:
    Path(settings["ssl_key_location"]).unlink()
    return settings["ssl_key_location"]


def spoil_cert(settings: dict[str, str]) -> str:
    Path(settings["ssl_certificate_location"]).write_text("no certificate")
    return settings["ssl_certificate_location"]


def spoil_key(settings: dict[str, str]) -> str:
    Path(settings["ssl_key_location"]).write_text("no key")
    return settings["ssl_key_location"]


def swap(settings: dict[str, str]) -> str:
    """The slip of two names."""
    settings["ssl_certificate_location"], settings["ssl_key_location"] = (
        settings["ssl_key_location"],
        settings["ssl_certificate_location"],
    )
    return settings["ssl_certificate_location"]


def another_key(settings: dict[str, str]) -> str:
    other = trustme.CA().issue_cert("x").private_key_pem.bytes()
    key = load_pem_private_key(other, None)
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    Path(settings["ssl_key_location"]).write_bytes(pem)
    return settings["ssl_key_location"]


def lock(settings: dict[str, str]) -> str:
    with_password(settings["ssl_key_location"], b"secret")
    return settings["ssl_key_location"]


def lock_and_guess(settings: dict[str, str]) -> str:
    settings["ssl_key_password"] = "hunter2"
    return lock(settings)


def lock_and_shout(settings: dict[str, str]) -> str:
    settings["ssl_key_password"] = "hunter2" * 1000
    return lock(settings)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (spoil_missing_cert, "certificate file cannot be used (No such file or directory)"),
        (spoil_missing_key, "key file cannot be used (No such file or directory)"),
        (spoil_cert, "certificate file cannot be used (no certificates in it)"),
        (spoil_key, "key file cannot be used (no key in it, or one with a password)"),
        (swap, "certificate file cannot be used (no certificates in it)"),
        (another_key, "key file cannot be used (it does not belong to the certificate in "),
        (lock, "key file cannot be used (no key in it, or one with a password)"),
        (lock_and_guess, "key file cannot be used (sslKeyPassword does not open it, or it is no key)"),
        (lock_and_shout, "key file cannot be used (sslKeyPassword does not open it, or it is no key)"),
    ],
)
async def test_unusable_files_are_said_at_the_start(authority, files, spoil, said):
    settings = files.settings(authority, authority.issue_cert("tss"))
    path = spoil(settings)
    with pytest.raises(OSError) as caught:
        async with exporter("https://127.0.0.1:1", **settings):
            pass
    assert said in str(caught.value) and path in str(caught.value)
    assert "hunter2" not in str(caught.value)


def test_the_daemon_ends_with_2_and_says_which_file(authority, files):
    """Restarting would not help, so the exit code says that a setting is wrong."""
    settings = files.settings(authority, authority.issue_cert("tss"))
    path = another_key(settings)
    exporters = f"""[{{name: backend, type: otlp, endpoint: "https://127.0.0.1:1", sslCertificateLocation:
        {settings["ssl_certificate_location"]}, sslKeyLocation: {path}}}]"""
    environ = {"TSS_KAFKA_BROKERS": "127.0.0.1:1", "TSS_EXPORTERS": exporters}
    environ |= {"TSS_OBSERVABILITY_METRICS_PORT": "0", "TSS_OBSERVABILITY_HEALTH_PORT": "0"}
    environ |= {"TSS_DEAD_LETTER_TYPE": "log"}
    command = [sys.executable, "-m", "tss"]
    done = subprocess.run(command, env=os.environ | environ, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    last = done.stderr.splitlines()[-1]
    assert "exporters, backend: " in last and path in last and "does not belong to the certificate" in last
