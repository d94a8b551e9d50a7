"""The image: locked up as the chart's pod is, it does the main job against a real broker, and stops in time."""

from __future__ import annotations

import json
import os
import time
from os import urandom
from pathlib import Path

import pytest
import yaml
from opentelemetry.proto.trace.v1.trace_pb2 import Status, TracesData

from tests.contracts.source import Sent
from tests.real import image
from tests.real.brokers import Tansu
from tests.real.daemon import Group, until
from tests.real.load import SpanId
from tests.real.test_lifecycle import World, make_world, some_traces, spans, to_sink
from tests.sinks import OtlpSink

pytestmark = pytest.mark.image
READY_SECS = 30.0
PORT = 18080
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


def out_of(name: str, *entrypoint: str, tag: str = image.IMAGE) -> str:
    with image.running(name, entrypoint=entrypoint, tag=tag) as container:
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


def test_parquet_is_in_it_if_asked_for() -> None:
    question = "python", "-c", "import importlib.util as util; print(util.find_spec('pyarrow') is not None)"
    assert out_of(f"tss-plain-{os.getpid()}", *question).strip() == "False"
    image.build(image.IMAGE_WITH_PARQUET, "PARQUET=yes")
    assert out_of(f"tss-parquet-{os.getpid()}", *question, tag=image.IMAGE_WITH_PARQUET).strip() == "True"


def settings_of(place: World) -> tuple[str, str, str]:
    """Options by which a container finds the world's settings; what it would write goes to the log."""
    file = place.directory / "tss.yaml"
    ports = {"observability": {"healthPort": PORT, "metricsPort": 0}, "deadLetter": {"type": "log"}}
    file.write_text(yaml.safe_dump(place.config | ports))
    file.chmod(0o644)
    place.directory.chmod(0o755)
    mount = f"--volume={file}:/etc/tss/tss.yaml:ro"
    return mount, "--env=TSS_CONFIG=/etc/tss/tss.yaml", f"--env=TSS_OBSERVABILITY_HEALTH_PORT={PORT}"


def exec_(container: str, *command: str) -> int:
    return image.podman("exec", container, *command).returncode


def said(container: str) -> str:
    done = image.podman("logs", container)
    return done.stdout + done.stderr


def state(container: str) -> str:
    return image.podman("inspect", "--format", "{{.State.Status}} {{.State.ExitCode}}", container).stdout.strip()


def test_it_does_the_main_job_and_stops_in_time(tansu: Tansu, tmp_path: Path, built: float) -> None:
    traces = some_traces(30)
    with OtlpSink() as sink:
        place = make_world(tansu, tmp_path, exporters=to_sink(sink))
        began = time.monotonic()
        with image.running(f"tss-job-{os.getpid()}", *settings_of(place)) as job:
            health = ["curl", "-sf", f"localhost:{PORT}/health/ready"]
            ready = until(lambda: exec_(job, *health) == 0, READY_SECS, lambda: said(job))
            place.send(*traces)
            until(lambda: spans(traces) <= sink.spans, 30, lambda: said(job))
            with Group.watch(tansu, place.config, 1) as group:
                group.wait_until_done(20, lambda: said(job), {0: place.sent})
            # The guide's two looks into a pod, and the image's own.
            assert exec_(job, "nc", "-zv", "127.0.0.1", str(tansu.port)) == 0
            assert exec_(job, "curl", "-s", f"localhost:{PORT}/health") == 0
            assert exec_(job, *config()["Healthcheck"]["Test"][1:]) == 0
            began = time.monotonic()
            assert image.podman("stop", "--time", "20", job).returncode == 0
            stopped = time.monotonic() - began
            assert (state(job), stopped < 12) == ("exited 0", True), said(job)
            assert '"event": "stopped"' in said(job)
    size = config()["Size"] / 1e6
    print(
        f"built in {built:.0f} s, {size:.0f} MB with a base of Debian's, ready {ready:.1f} s after its start, stopped in {stopped:.1f} s"
    )


def large_records(number: int) -> tuple[list[Sent], set[SpanId]]:
    """Each a span of 64 KiB with an error, in a trace of its own whose root never comes."""
    records, ids = [], set()
    for index in range(number):
        trace, span = urandom(16), urandom(8)
        request = TracesData()
        found = request.resource_spans.add().scope_spans.add().spans.add()
        found.trace_id, found.span_id, found.parent_span_id = trace, span, urandom(8)
        found.name, found.status.code = f"large {index}", Status.STATUS_CODE_ERROR
        found.start_time_unix_nano = found.end_time_unix_nano = time.time_ns()
        found.attributes.add(key="body").value.string_value = urandom(32 * 1024).hex()
        records.append(Sent(request.SerializeToString(), key=trace))
        ids.add((trace, span))
    return records, ids


@pytest.mark.parametrize("claimed", [0, 10**9], ids=["its share of the limit", "more than there is"])
def test_4_out_of_memory(tansu: Tansu, tmp_path: Path, claimed: int) -> None:
    """Open traces that are twice what its limit leaves. By default it stays within; where a setting claims more than there
    is the kernel kills it, and with the larger limit that the guide advises the next one goes on without loss."""
    records, ids = large_records(2_000)
    with OtlpSink() as sink:
        place = make_world(tansu, tmp_path, exporters=to_sink(sink))
        place.config["app"] |= {"inactivityTimeoutSecs": 15, "maxBufferBytes": claimed}
        place.produce(*records)
        limit = 192
        if claimed:
            with image.running(f"tss-oom-{os.getpid()}", *settings_of(place), f"--memory={limit}m") as killed:
                until(lambda: state(killed) == "exited 137", 30, lambda: said(killed))
                assert "app.maxBufferBytes is more than the memory limit leaves" in said(killed)
            limit = 1024
        with image.running(f"tss-oom-{os.getpid()}", *settings_of(place), f"--memory={limit}m") as job:
            until(lambda: ids <= sink.spans or state(job) != "running 0", 60, lambda: said(job))
            assert state(job) == "running 0", said(job)
