"""`exporters`: names, files, credentials, policies."""

from collections.abc import Iterator, Sequence

from tss.settings.checks.conflict import Conflict, once, pair
from tss.settings.checks.datadog import complete
from tss.settings.errors import did_you_mean, nearest, shown
from tss.settings.keys import camel
from tss.settings.model import Settings
from tss.settings.sections.exporters import (
    DatadogExporter,
    DecisionsExporter,
    FileExporter,
    OtlpExporter,
    ParquetExporter,
    TraceExporter,
)


def conflicts(settings: Settings) -> Iterator[Conflict]:
    names: dict[str, str] = {}
    paths = {settings.dead_letter.path: "deadLetter.path"} if settings.dead_letter.type == "file" else {}
    for place, exporter in enumerate(settings.exporters):
        at = f"exporters[{place}]"
        yield from once(names, exporter.name, f"{at}.name")
        if isinstance(exporter, DecisionsExporter):
            yield from _rows(exporter, at, paths)
            continue
        yield from _known_policies(exporter, at, settings.policies)
        match exporter:
            case FileExporter():
                yield from once(paths, exporter.path, f"{at}.path")
                yield from _rotation(exporter, at)
            case ParquetExporter():
                yield from once(paths, exporter.path, f"{at}.path")
            case OtlpExporter():
                yield from _one_authorization(exporter, at)
                yield from _client_certificate(exporter, at)
            case DatadogExporter() if not exporter.via:
                keys = (f"{at}.agentUrl", f"{at}.apiKey", "datadog.agentUrl", "datadog.apiKey")
                yield Conflict(keys, "nothing", "agentUrl or apiKey, here or in the section datadog")
            case DatadogExporter():
                yield from complete(exporter, at)


def _rows(exporter: DecisionsExporter, at: str, paths: dict[str, str]) -> Iterator[Conflict]:
    wanted, other = ("topic", "path") if exporter.via == "kafka" else ("path", "topic")
    keys = (f"{at}.via", f"{at}.{wanted}")
    if not getattr(exporter, wanted):
        yield Conflict(keys, "nothing", f"{wanted}, because via is {exporter.via}")
    if getattr(exporter, other):
        yield Conflict((f"{at}.via", f"{at}.{other}"), f"a {other}", f"no {other}, because via is {exporter.via}")
    if exporter.path:
        yield from once(paths, exporter.path, f"{at}.path")
    if exporter.via == "file":
        yield from _rotation(exporter, at)


def _known_policies(exporter: TraceExporter, at: str, policies: Sequence[str]) -> Iterator[Conflict]:
    unknown = [name for name in exporter.match.get("policies", ()) if name not in policies]
    if unknown:
        keys, found = (f"{at}.match.policies", "sampling", "forceSampling"), ", ".join(map(shown, unknown))
        yield Conflict(keys, found, f"one of {', '.join(policies)}", did_you_mean(nearest(unknown[0], policies)))


def _one_authorization(exporter: OtlpExporter, at: str) -> Iterator[Conflict]:
    if exporter.bearer_token and any(name.lower() == "authorization" for name in exporter.headers):
        keys = (f"{at}.bearerToken", f"{at}.headers")
        yield Conflict(keys, "a token and an Authorization header", "one of the two")


def _rotation(exporter: FileExporter | DecisionsExporter, at: str) -> Iterator[Conflict]:
    if exporter.rotate_bytes or exporter.rotate_secs:
        return
    for name in ("max_files", "max_age_secs"):
        if getattr(exporter, name):
            keys = (f"{at}.{camel(name)}", f"{at}.rotateBytes", f"{at}.rotateSecs")
            yield Conflict(
                keys, "a limit for rotated files, but no rotation", "this key together with rotateBytes or rotateSecs"
            )


def _client_certificate(exporter: OtlpExporter, at: str) -> Iterator[Conflict]:
    certificate, key = f"{at}.sslCertificateLocation", f"{at}.sslKeyLocation"
    yield from pair(certificate, exporter.ssl_certificate_location, key, exporter.ssl_key_location)
    if exporter.ssl_key_password and not exporter.ssl_key_location:
        yield Conflict(
            (f"{at}.sslKeyPassword", key), "a password without a key", "this key together with sslKeyLocation"
        )
    if exporter.ssl_ca_location and not exporter.ssl_verify:
        keys = (f"{at}.sslVerify", f"{at}.sslCaLocation")
        yield Conflict(
            keys, "false", "true, since sslCaLocation is set; with false, certificates are not checked against any CA"
        )
    for name in ("ssl_certificate_location", "ssl_ca_location"):
        if getattr(exporter, name) and exporter.endpoint.startswith("http:"):
            keys = (f"{at}.endpoint", f"{at}.{camel(name)}")
            yield Conflict(keys, "an http address", f"an https address, since {camel(name)} is set")
