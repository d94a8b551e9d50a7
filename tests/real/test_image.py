"""The image: locked up as the chart's pod is, it does the main job against a real broker, and stops in time."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest
import yaml

from tests.real import image
from tests.real.brokers import Tansu
from tests.real.daemon import Group, until
from tests.real.test_lifecycle import make_world, some_traces, spans, to_sink
from tests.sinks import OtlpSink

pytestmark = pytest.mark.image
READY_SECS = 30.0
_SAYS_HOW_IT_IS = """
import os
status = dict(line.split(':', 1) for line in open('/proc/self/status') if ':' in line)
try:
    open('/var/lib/tss/a', 'w')
    written = 'writable'
except OSError as error:
    written = error.strerror
import importlib.util
tools = [name for name in ('pip', 'Cython', 'setuptools') if importlib.util.find_spec(name)]
print(os.getuid(), os.getgid(), int(status['CapEff'], 16), written, tools)
"""


@pytest.fixture(scope="module", autouse=True)
def built() -> float:
    return image.build()


def config() -> dict:
    found = json.loads(image.podman("image", "inspect", image.IMAGE).stdout)[0]
    return dict(
        found["Config"] | {"Healthcheck": found.get("HealthCheck") or found.get("Healthcheck"), "Size": found["Size"]}
    )


def out_of(name: str, *entrypoint: str) -> str:
    with image.running(name, entrypoint=entrypoint) as container:
        image.podman("wait", container)
        done = image.podman("logs", container)
        return done.stdout + done.stderr


def test_it_says_what_it_is() -> None:
    found = config()
    assert found["Labels"]["org.opencontainers.image.title"] == "tail-sampling-selector"
    assert found["Labels"]["org.opencontainers.image.version"] == "0.0.1-test"
    assert found["Labels"]["org.opencontainers.image.revision"] == "of-a-test"
    assert found["User"] == "1000:1000" and found["StopSignal"] in ("SIGTERM", "15")
    assert found["Entrypoint"] == ["python", "-m", "tss"]
    assert found["Healthcheck"]["Test"][0] == "CMD", "no shell"


def test_nothing_in_it_can_be_written_or_installed_with() -> None:
    assert out_of(f"tss-how-{os.getpid()}", "python", "-c", _SAYS_HOW_IT_IS).strip() == (
        "1000 1000 0 Read-only file system []"
    )


def test_wrong_settings_are_told_as_everywhere() -> None:
    with image.running(f"tss-wrong-{os.getpid()}", arguments=("check",)) as container:
        assert image.podman("wait", container).stdout.strip() == "2"
        assert "kafka.brokers: found nothing" in image.podman("logs", container).stderr


def test_it_does_the_main_job_and_stops_in_time(tansu: Tansu, tmp_path: Path, built: float) -> None:
    traces = some_traces(30)
    with OtlpSink() as sink:
        place = make_world(tansu, tmp_path, exporters=to_sink(sink))
        ports = {"healthPort": 18080, "metricsPort": 0}
        file = tmp_path / "tss.yaml"
        file.write_text(yaml.safe_dump(place.config | {"observability": ports, "deadLetter": {"type": "log"}}))
        file.chmod(0o644)
        tmp_path.chmod(0o755)
        mount = f"--volume={file}:/etc/tss/tss.yaml:ro"
        began = time.monotonic()
        options = (mount, "--env=TSS_CONFIG=/etc/tss/tss.yaml", "--env=TSS_OBSERVABILITY_HEALTH_PORT=18080")
        with image.running(f"tss-job-{os.getpid()}", *options) as container:

            def exec_(*command: str) -> int:
                return image.podman("exec", container, *command).returncode

            def said() -> str:
                done = image.podman("logs", container)
                return done.stdout + done.stderr

            health = ["curl", "-sf", "localhost:18080/health/ready"]
            ready = until(lambda: exec_(*health) == 0, READY_SECS, said)
            place.send(*traces)
            until(lambda: spans(traces) <= sink.spans, 30, said)
            with Group.watch(tansu, place.config, 1) as group:
                group.wait_until_done(20, said, {0: place.sent})
            # The guide's two looks into a pod, and the image's own.
            assert exec_("nc", "-zv", "127.0.0.1", str(tansu.port)) == 0
            assert exec_("curl", "-s", "localhost:18080/health") == 0
            assert exec_(*config()["Healthcheck"]["Test"][1:]) == 0
            began = time.monotonic()
            assert image.podman("stop", "--time", "20", container).returncode == 0
            stopped = time.monotonic() - began
            code = image.podman("inspect", "--format", "{{.State.ExitCode}}", container).stdout.strip()
            assert (code, stopped < 12) == ("0", True), said()
            assert '"event": "stopped"' in said()
    size = config()["Size"] / 1e6
    print(
        f"built in {built:.0f} s, {size:.0f} MB with a base of Debian's, ready {ready:.1f} s after its start, stopped in {stopped:.1f} s"
    )
