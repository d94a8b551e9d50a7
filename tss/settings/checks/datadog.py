"""`datadog`: the site, and the keys that each `via` needs."""

from collections.abc import Iterator

import attrs

from tss.settings.checks.conflict import Conflict
from tss.settings.errors import shown
from tss.settings.model import Settings
from tss.settings.sections.datadog import DATADOG_API
from tss.settings.sections.exporters import DatadogExporter


def conflicts(settings: Settings) -> Iterator[Conflict]:
    """The two keys for the site must agree. Without exporters the section is the only destination, and must be complete."""
    datadog = settings.datadog
    from_endpoint = attrs.evolve(datadog, site="").chosen_site
    if datadog.site and datadog.api_endpoint != DATADOG_API and datadog.site != from_endpoint:
        keys, found = ("datadog.apiEndpoint", "datadog.site"), shown(datadog.api_endpoint)
        yield Conflict(keys, found, "https://api.SITE with the site of datadog.site", "remove one of the two keys")
    if settings.exporters:
        return
    if not datadog.chosen_via:
        yield Conflict(
            ("exporters", "datadog.via", "datadog.apiKey", "datadog.agentUrl"),
            "no destination for kept traces",
            "exporters, datadog.apiKey or datadog.agentUrl",
            "set datadog.apiKey, or datadog.agentUrl to an agent such as http://127.0.0.1:8126, or list exporters",
        )
    else:
        yield from complete(DatadogExporter.of(datadog), "datadog")


def complete(exporter: DatadogExporter, at: str) -> Iterator[Conflict]:
    """The keys that the exporter's `via` needs; `at` is where they are."""

    def lacks(name: str, allowed: str, *others: str) -> Conflict:
        keys = (f"{at}.{name}", f"datadog.{name}", *others)
        return Conflict(tuple(dict.fromkeys(keys)), "nothing", f"{allowed}, since via is {exporter.via}")

    if exporter.via == "agent":
        if not exporter.agent_url:
            yield lacks("agentUrl", "an agent's address")
        return
    if not exporter.api_key:
        yield lacks("apiKey", "an API key")
    if not exporter.site and not exporter.intake_url:
        yield lacks("site", "a site", "datadog.apiEndpoint")
