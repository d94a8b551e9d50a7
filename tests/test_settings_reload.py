"""The settings file of a running daemon: what of it is taken up, and what is refused or needs a restart."""

from __future__ import annotations

import logging
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog
import yaml

from tests.edges.web.test_policies_api import malformed
from tss.core.policy_errors import WrongPolicies
from tss.daemon.reloading import SettingsFile
from tss.daemon.wiring import ruleset_of
from tss.settings import load

BASE: dict[str, Any] = {
    "kafka": {"brokers": "kafka:9092"},
    "exporters": [{"name": "file", "type": "file", "path": "kept.jsonl"}],
    "sampling": {"policies": [{"name": "slow", "keep": 0.1, "when": {"latency": "> 5s"}}]},
}


class Started:
    """A daemon that was started with a file, which changes meanwhile."""

    def __init__(self, directory: Path, **sections: Any) -> None:
        self.path = directory / "tss.yaml"
        self.write(**sections)
        self.settings = load(str(self.path), {})
        self.file = SettingsFile(str(self.path), {}, self.settings)

    def write(self, **sections: Any) -> None:
        self.path.write_text(yaml.safe_dump(BASE | sections))

    @property
    def fingerprint(self) -> str:
        return ruleset_of(self.settings.sampling, self.settings.effective_exporters).fingerprint


@pytest.fixture
def level() -> Iterator[None]:
    before = structlog.get_config()["wrapper_class"], logging.getLogger().level
    yield
    structlog.configure(wrapper_class=before[0])
    logging.getLogger().setLevel(before[1])


@pytest.mark.usefixtures("level")
async def test_policies_and_the_log_level_are_taken_up_and_the_rest_is_named(tmp_path: Path) -> None:
    started = Started(tmp_path)
    loaded = await started.file.load()
    assert loaded.ruleset.fingerprint == started.fingerprint and loaded.needs_restart == []
    started.write(
        sampling={"policies": [{"name": "slow", "keep": 0.5, "when": {"latency": "> 5s"}}], "weights": False},
        observability={"logLevel": "error", "healthPort": 8081},
        app={"rootQuietSecs": 5},
        redis={"url": "redis://:secret@redis"},
    )
    loaded = await started.file.load()
    assert loaded.ruleset.fingerprint != started.fingerprint and '"keep":0.5' in loaded.ruleset.text
    assert {*loaded.needs_restart} == {"app.rootQuietSecs", "observability.healthPort", "redis.url", "sampling.weights"}
    assert not structlog.get_logger().bind().is_enabled_for(logging.WARNING)
    started.write(observability={"logLevel": "debug"})
    await started.file.load()
    assert structlog.get_logger().bind().is_enabled_for(logging.DEBUG)


@pytest.mark.usefixtures("level")
@pytest.mark.parametrize(
    ("sections", "why"),
    [
        ({"sampling": {"policies": [{"name": "slow", "kep": 1}]}}, "sampling.policies[0]"),
        ({"kafka": {"brokers": ""}}, "kafka.brokers"),
        ({"unknown": {}}, "unknown"),
        ({"sampling": {"otelTailSampling": {"policies": [{"name": "a", "type": "always_sample"}]}}}, "restart"),
        # A renamed policy, and its exporter beside it: the running exporter would get nothing any more.
        (
            {
                "sampling": {"policies": [{"name": "late", "keep": 1, "when": {"latency": "> 5s"}}]},
                "exporters": [{"name": "file", "type": "file", "path": "kept.jsonl", "match": {"policies": ["late"]}}],
            },
            "exporters[0].match.policies",
        ),
    ],
    ids=["a policy", "another section", "an unknown section", "waits", "an exporter's policy"],
)
async def test_a_file_with_any_error_is_refused_as_a_whole(tmp_path: Path, sections: dict[str, Any], why: str) -> None:
    match = {"match": {"policies": ["slow"]}}
    started = Started(tmp_path, exporters=[{"name": "file", "type": "file", "path": "kept.jsonl", **match}])
    started.write(**sections)
    with pytest.raises(WrongPolicies) as refused:
        await started.file.load()
    assert why in str(refused.value)


async def test_the_content_differs_if_the_file_does_and_through_a_swapped_link(tmp_path: Path) -> None:
    """As Kubernetes does it: `tss.yaml` -> `..data/tss.yaml`, and `..data` -> a folder, which is replaced."""
    for name, rate in (("..one", 0.1), ("..two", 0.5)):
        (tmp_path / name).mkdir()
        sampling = {"policies": [{"name": "slow", "keep": rate, "when": {"latency": "> 5s"}}]}
        (tmp_path / name / "tss.yaml").write_text(yaml.safe_dump(BASE | {"sampling": sampling}))
    (tmp_path / "..data").symlink_to("..one")
    path = tmp_path / "tss.yaml"
    path.symlink_to("..data/tss.yaml")
    file = SettingsFile(str(path), {}, load(str(path), {}))
    before = await file.content()
    assert before and before == await file.content()
    (tmp_path / "..new").symlink_to("..two")
    (tmp_path / "..new").rename(tmp_path / "..data")
    assert await file.content() != before
    assert '"keep":0.5' in (await file.load()).ruleset.text
    path.unlink()
    assert await file.content() == b""
    with pytest.raises(WrongPolicies, match="no readable file"):
        await file.load()


@pytest.mark.parametrize("path", [None, "/dev/null"])
async def test_what_is_no_file_is_not_looked_at_and_cannot_be_read_again(tmp_path: Path, path: str | None) -> None:
    file = SettingsFile(path, {}, Started(tmp_path).settings)
    assert await file.content() is None
    with pytest.raises(WrongPolicies, match="cannot be read again"):
        await file.load()


async def test_malformed_texts_are_refused_by_the_settings_themselves(tmp_path: Path) -> None:
    started = Started(tmp_path)
    good = '{"policies": [{"name": "slow", "keep": 0.5, "when": {"latency": "> 5s"}}]}'
    assert (await started.file.make(good)).fingerprint != started.fingerprint
    for body in malformed(random.Random(18)):
        with pytest.raises((WrongPolicies, UnicodeDecodeError)):
            await started.file.make(body.decode())
    with pytest.raises(WrongPolicies, match="weights"):
        await started.file.make('{"weights": false}')
