"""What TLS to a backend rests on: whom to trust, and how to prove who we are (mTLS)."""

from __future__ import annotations

import os
import ssl
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Protocol

import httpx

from tss.core.errors import WrongSetting
from tss.edges.unusable import UnusableFile

CERTIFICATES_FILE, CERTIFICATES_FOLDERS, KEY_LOG = "SSL_CERT_FILE", "SSL_CERT_DIR", "SSLKEYLOGFILE"


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


def tls_context(files: Files, *, spoken: bool = True) -> ssl.SSLContext:
    """Raises UnusableFile, which names the file and what is wrong with it, when one cannot be used; WrongSetting when the
    environment names one. Unless TLS is ``spoken`` and verified, the certificates that the environment names are not read.
    """
    context = _trusting(files.ssl_ca_location, needed=spoken and files.ssl_verify)
    if not files.ssl_verify:
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    if files.ssl_certificate_location:
        _prove(context, files.ssl_certificate_location, files.ssl_key_location, files.ssl_key_password)
    return context


def trusted(environ: Mapping[str, str] = os.environ) -> ssl.SSLContext:
    """Trusts the certificates in SSL_CERT_FILE and SSL_CERT_DIR, and only these; without both, the authorities of certifi.

    Raises WrongSetting with the name of the variable.
    """
    _check_key_log(environ)
    file, folders = environ.get(CERTIFICATES_FILE, ""), environ.get(CERTIFICATES_FOLDERS, "")
    if not file and not folders:
        return httpx.create_ssl_context(trust_env=False)
    try:
        # The folders' files with hashes for names are found when they are needed, so also those that come later.
        context = ssl.create_default_context(cafile=file or None, capath=folders or None)
    except OSError as error:
        raise WrongSetting(f"{CERTIFICATES_FILE}: {_unusable('it', 'no certificates in it', file, error)}") from error
    if file and not context.cert_store_stats()["x509"]:
        raise WrongSetting(f"{CERTIFICATES_FILE}: {file}: it has no certificates")
    if folders:
        _load_all(context, folders)
    return context


def _load_all(context: ssl.SSLContext, folders: str) -> None:
    """Every certificate in the folders, whatever its file is called: a mounted ConfigMap knows no hashes."""
    loaded = 0
    for path in _files_of(folders):
        with suppress(OSError):  # ssl.SSLError is one: a README, a private key
            context.load_verify_locations(cafile=path)
            loaded += 1
    if not loaded:
        raise WrongSetting(f"{CERTIFICATES_FOLDERS}: {folders}: no file in it has certificates")


def _files_of(folders: str) -> Sequence[Path]:
    found: list[Path] = []
    for folder in filter(None, folders.split(os.pathsep)):
        try:
            found += [each for each in sorted(Path(folder).iterdir()) if each.is_file()]
        except OSError as error:
            words = error.strerror or type(error).__name__
            raise WrongSetting(f"{CERTIFICATES_FOLDERS}: {folder} cannot be used ({words})") from error
    return found


def _check_key_log(environ: Mapping[str, str]) -> None:
    """Python writes the keys of each connection there, and its error names neither the file nor the variable."""
    path = environ.get(KEY_LOG, "")
    try:
        if path:
            with open(path, "ab"):  # noqa: PTH123  # by its name as it was given
                pass
    except OSError as error:
        raise WrongSetting(f"{KEY_LOG}: {path} cannot be written ({error.strerror})") from error


def _trusting(path: str, *, needed: bool) -> ssl.SSLContext:
    if not path and needed:
        return trusted()
    _check_key_log(os.environ)
    if not path:
        return httpx.create_ssl_context(trust_env=False)
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
