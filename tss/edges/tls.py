"""TLS to destinations and to Redis: the trusted authorities, and the client certificate (mTLS)."""

from __future__ import annotations

import os
import ssl
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import httpx

from tss.core.errors import WrongSetting
from tss.edges.unusable import UnusableFile
from tss.settings import OtlpExporter, Redis

CERTIFICATES_FILE, CERTIFICATES_FOLDERS, KEY_LOG = "SSL_CERT_FILE", "SSL_CERT_DIR", "SSLKEYLOGFILE"


TlsSettings = OtlpExporter | Redis


def tls_context(settings: TlsSettings, *, spoken: bool = True) -> ssl.SSLContext:
    """The context for these settings. ``spoken``: the address begins with https, so TLS is used.

    Raises UnusableFile if a file that the settings name cannot be used; WrongSetting if the environment names it. The
    environment's certificates are read only if TLS is spoken and verified.
    """
    context = _trusting(settings.ssl_ca_location, needed=spoken and settings.ssl_verify)
    if not settings.ssl_verify:
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    if settings.ssl_certificate_location:
        _prove(context, settings.ssl_certificate_location, settings.ssl_key_location, settings.ssl_key_password)
    return context


def trusted(environ: Mapping[str, str] = os.environ) -> ssl.SSLContext:
    """A context that trusts only the certificates in SSL_CERT_FILE and SSL_CERT_DIR; if neither is set, certifi's authorities.

    Raises WrongSetting, with the name of the variable.
    """
    _check_key_log(environ)
    file, folders = environ.get(CERTIFICATES_FILE, ""), environ.get(CERTIFICATES_FOLDERS, "")
    if not file and not folders:
        return httpx.create_ssl_context(trust_env=False)
    try:
        # OpenSSL reads files with hashed names when it needs them, so also files that are added later.
        context = ssl.create_default_context(cafile=file or None, capath=folders or None)
    except OSError as error:
        raise WrongSetting(f"{CERTIFICATES_FILE}: {_unusable('it', 'no certificates in it', file, error)}") from error
    if file and not context.cert_store_stats()["x509"]:
        raise WrongSetting(f"{CERTIFICATES_FILE}: {file}: it has no certificates")
    if folders:
        _load_all(context, folders)
    return context


def _load_all(context: ssl.SSLContext, folders: str) -> None:
    """Load every certificate in the folders: the files of a mounted ConfigMap have no hashed names."""
    loaded = 0
    for path in _files_of(folders):
        with suppress(OSError):  # ssl.SSLError is an OSError: the file is a README or a private key
            context.load_verify_locations(cafile=path)
            loaded += 1
    if not loaded:
        raise WrongSetting(f"{CERTIFICATES_FOLDERS}: {folders}: no file in it has a certificate")


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
    """Raises WrongSetting if SSLKEYLOGFILE cannot be written: Python's own error names neither the file nor the variable."""
    path = environ.get(KEY_LOG, "")
    try:
        if path:
            with open(path, "ab"):  # noqa: PTH123  # with the path as the operator wrote it
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
    except OSError as error:  # or ssl.SSLError, which is an OSError; neither names the file
        raise _unusable("CA file", "no certificates in it", path, error) from error


def _prove(context: ssl.SSLContext, certificate: str, key: str, password: str) -> None:
    # Read first, since OpenSSL's error does not say which of the two files is wrong.
    for name, path in (("certificate file", certificate), ("key file", key)):
        _readable(name, path)
    try:
        # A function, even without a password: else OpenSSL would ask for one at the terminal.
        context.load_cert_chain(certificate, key, lambda: password)
    except (ssl.SSLError, ValueError) as error:  # ValueError: the password is too long
        raise _blamed(error, certificate, key, password) from error


def _readable(name: str, path: str) -> None:
    try:
        with open(path, "rb"):  # noqa: PTH123  # with the path as the operator wrote it
            pass
    except OSError as error:
        raise _unusable(name, "", path, error) from error


def _blamed(error: Exception, certificate: str, key: str, password: str) -> UnusableFile:
    """The error with the file that is wrong: the key file, if OpenSSL can read the certificate file alone."""
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
