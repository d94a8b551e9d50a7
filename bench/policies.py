"""Twenty policies, as a large system has them, in the Collector's form, which `tss` reads as it stands.

Ten look at attributes, two of these with a regular expression on `url.path`, of which a corpus has 100,000 values. One
condition looks at two fields of the same span. They keep the traces with an error and no others, as the guide's three policies
do in the benchmark: so both runs send the same.
"""

from __future__ import annotations

from typing import Any

LATENCY_MS = 5000  # more than any trace here has


def _text(name: str, key: str, *values: str, regex: bool = False) -> dict[str, Any]:
    return {
        "name": name,
        "type": "string_attribute",
        "string_attribute": {"key": key, "values": [*values], "enabled_regex_matching": regex},
    }


def _latency(name: str, least: int, most: int = 0) -> dict[str, Any]:
    return {"name": name, "type": "latency", "latency": {"threshold_ms": least, "upper_threshold_ms": most}}


def _condition(name: str, *texts: str) -> dict[str, Any]:
    return {"name": name, "type": "ottl_condition", "ottl_condition": {"error_mode": "ignore", "span": [*texts]}}


def _numbers(name: str, key: str, least: int, most: int) -> dict[str, Any]:
    bounds = {"key": key, "min_value": least, "max_value": most}
    return {"name": name, "type": "numeric_attribute", "numeric_attribute": bounds}


FEW: list[dict[str, Any]] = [
    {"name": "errors", "type": "status_code", "status_code": {"status_codes": ["ERROR"]}},
    _latency("slow", LATENCY_MS),
]
"""The same as the guide's policies in the benchmark."""

TWENTY: list[dict[str, Any]] = [
    *FEW,
    _text("admin", "url.path", "^/admin/", "^/internal/debug/", regex=True),
    _text("exports", "url.path", "/(export|report)s?/[0-9a-f]+$", regex=True),
    _condition(
        "failed writes",
        'attributes["http.response.status_code"] >= 500 and attributes["http.request.method"] == "POST"',
    ),
    _text("new routes", "http.route", "/v3/orders", "/v3/baskets", "/v3/refunds"),
    _text("old services", "service.name", "billing-legacy", "mail-legacy"),
    _numbers("server errors", "http.response.status_code", 500, 599),
    _numbers("large results", "db.response.returned_rows", 100_000, 1 << 40),
    _text("old databases", "db.system.name", "oracle", "db2"),
    _text("canaries", "deployment.environment.name", "canary"),
    {"name": "debugged", "type": "boolean_attribute", "boolean_attribute": {"key": "app.debug", "value": True}},
    _text("one tenant", "tenant.id", "acme", "umbrella"),
    _condition("deletions", 'IsMatch(name, "^DELETE ")'),
    _condition("long queries", "end_time_unix_nano - start_time_unix_nano > 4000000000 and kind == SPAN_KIND_CLIENT"),
    _latency("very slow", 10_000, 60_000),
    {"name": "large", "type": "span_count", "span_count": {"min_spans": 10_000}},
    {"name": "marked", "type": "trace_state", "trace_state": {"key": "vendor", "values": ["keep"]}},
    {
        "name": "slow checkout",
        "type": "and",
        "and": {"and_sub_policy": [_text("checkout", "service.name", "checkout"), _latency("checkout slow", 3000)]},
    },
    {"name": "few", "type": "span_count", "span_count": {"min_spans": 5000, "max_spans": 6000}},
]


def section(policies: list[dict[str, Any]], wait_secs: float, traces: int) -> dict[str, Any]:
    """The Collector's `tail_sampling` with these policies, and caches that hold all traces of a topic."""
    return {
        "decision_wait": f"{wait_secs:g}s",
        "num_traces": traces,
        "decision_cache": {"sampled_cache_size": traces, "non_sampled_cache_size": traces},
        "policies": policies,
    }
