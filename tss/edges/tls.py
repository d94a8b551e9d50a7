"""What TLS to a backend rests on: whom to trust, and how to prove who we are (mTLS)."""

from __future__ import annotations

import ssl
from typing import Protocol

import httpx

from tss.edges.unusable import UnusableFile


class Files(Protocol):
    """The keys of an exporter that name them; empty where there is none."""

    @property
    def ssl_ca_location(self) -> str: ...
    @property
    def ssl_certificate_location(self) -> str: ...
    @property
    def ssl_key_location(self) -> str: ...
    @property
    def ssl_key_password(self) -> str: ...
    @property
    def ssl_verify(self) -> bool: ...


def tls_context(files: Files) -> ssl.SSLContext:
    """Raises UnusableFile, which names the file and what is wrong with it, when one cannot be used."""
    context = _trusting(files.ssl_ca_location)
    if not files.ssl_verify:
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    if files.ssl_certificate_location:
        _prove(context, files.ssl_certificate_location, files.ssl_key_location, files.ssl_key_password)
    return context


def _trusting(path: str) -> ssl.SSLContext:
    if not path:
        return httpx.create_ssl_context()
    try:
        return ssl.create_default_context(cafile=path)
    except OSError as error:  # ssl.SSLError is one too, and neither names the file
        raise _unusable("CA file", "no certificates in it", path, error) from error


def _prove(context: ssl.SSLContext, certificate: str, key: str, password: str) -> None:
    # Looked at first, since OpenSSL's own words do not say which of the two it means.
    for name, path in (("certificate file", certificate), ("key file", key)):
        _readable(name, path)
    try:
        # A function, even for no password: without one OpenSSL would ask at the terminal.
        context.load_cert_chain(certificate, key, lambda: password)
    except (ssl.SSLError, ValueError) as error:  # ValueError: a password that is too long
        raise _blamed(error, certificate, key, password) from error


def _readable(name: str, path: str) -> None:
    try:
        with open(path, "rb"):  # noqa: PTH123  # by its name as it was given
            pass
    except OSError as error:
        raise _unusable(name, "", path, error) from error


def _blamed(error: Exception, certificate: str, key: str, password: str) -> UnusableFile:
    """Which file it is, told by what OpenSSL makes of the certificates alone."""
    if getattr(error, "reason", None) == "KEY_VALUES_MISMATCH":
        return _unusable("key file", f"it does not belong to the certificate in {certificate}", key, error)
    try:
        ssl.create_default_context(cafile=certificate)
    except OSError:
        return _unusable("certificate file", "no certificates in it", certificate, error)
    wrong = "sslKeyPassword does not open it, or it is no key" if password else "no key in it, or one with a password"
    return _unusable("key file", wrong, key, error)


def _unusable(name: str, reason: str, path: str, error: Exception) -> UnusableFile:
    number = getattr(error, "errno", None) or 0
    known = reason if isinstance(error, ssl.SSLError | ValueError) else getattr(error, "strerror", reason)
    return UnusableFile(number, f"{name} cannot be used ({known})", path)
