"""compose.yaml, as far as it can be judged without a Docker engine: its files are there, its settings are ones."""

from pathlib import Path

import pytest
import yaml

from tss.settings import load

ROOT = Path(__file__).resolve().parents[1]
SERVICES = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]
MOUNTS = [volume.split(":") for service in SERVICES.values() for volume in service.get("volumes", ())]


@pytest.mark.parametrize("mount", MOUNTS, ids=lambda mount: mount[0])
def test_what_is_mounted_is_there_and_read_only(mount: list[str]) -> None:
    assert (ROOT / mount[0]).is_file()
    assert mount[2] == "ro"


def test_the_daemon_takes_its_settings() -> None:
    found = load(str(ROOT / "deploy" / "compose" / "tss.yaml"), {})
    assert found.kafka.brokers == "kafka:29092" and found.redis.url == "redis://redis:6379"


def test_the_daemon_has_longer_to_stop_than_it_takes() -> None:
    found = load(str(ROOT / "deploy" / "compose" / "tss.yaml"), {})
    assert int(SERVICES["tss"]["stop_grace_period"].removesuffix("s")) > found.app.shutdown_timeout_secs


def test_only_this_machine_reaches_it() -> None:
    ports = [port for service in SERVICES.values() for port in service.get("ports", ())]
    assert ports and all(port.startswith("127.0.0.1:") for port in ports)
