"""Each command of the deployment guide, with the test that covers it, or why none here can."""

import re
from pathlib import Path

import pytest

from tests.kube import tools
from tss.settings.environment import VARIABLES

GUIDE = tools.ROOT / "docs" / "deployment.md"
_NO_PODS = "needs pods, and there is no kubelet here"
_PUBLISHED = "needs a registry of images or charts"

# By the command's beginning: a test, as `file::name`, or a sentence.
COVERED = {
    "docker build -t": "tests/real/test_image.py::test_it_says_what_it_is",
    "docker push": _PUBLISHED,
    "helm repo add": _PUBLISHED,
    "helm install tail-sampling-selector ./helm-charts": "tests/kube/test_chart.py::test_the_guides_first_command_is_enough",
    "kubectl get pods -n tail-sampling": "tests/kube/test_cluster.py::test_the_guides_commands_do_what_it_says",
    "kubectl logs -n tail-sampling": _NO_PODS,
    "curl http://<service-ip>:8080/health": "tests/real/test_image.py::test_it_does_the_main_job_and_stops_in_time",
    "helm test tail-sampling-selector": _NO_PODS,
    "helm upgrade --install": "tests/kube/test_cluster.py::test_the_guides_commands_do_what_it_says",
    "kubectl get scaledobject": "tests/kube/test_cluster.py::test_the_guides_commands_do_what_it_says",
    "kubectl describe scaledobject": "tests/kube/test_cluster.py::test_the_guides_commands_do_what_it_says",
    "kubectl create secret generic": "tests/kube/test_cluster.py::test_the_guides_commands_do_what_it_says",
    "kubectl describe pod": _NO_PODS,
    "kubectl get events": "tests/kube/test_cluster.py::test_the_guides_commands_do_what_it_says",
    "kubectl exec -n tail-sampling <pod-name> -- nc -zv kafka 9092": (
        "tests/real/test_image.py::test_it_does_the_main_job_and_stops_in_time"
    ),
    "kubectl exec -n tail-sampling <pod-name> -- curl localhost:8080/health": (
        "tests/real/test_image.py::test_it_does_the_main_job_and_stops_in_time"
    ),
    "kubectl get secret datadog-secret": "tests/kube/test_cluster.py::test_the_guides_commands_do_what_it_says",
    "kubectl logs -n keda": "needs KEDA itself",
    "kubectl scale deployment": "tests/kube/test_cluster.py::test_the_guides_commands_do_what_it_says",
    "kubectl set env deployment": "tests/kube/test_cluster.py::test_the_guides_commands_do_what_it_says",
    "helm list": "tests/kube/test_cluster.py::test_the_guides_commands_do_what_it_says",
    "helm upgrade tail-sampling-selector": "tests/kube/test_cluster.py::test_the_guides_commands_do_what_it_says",
    "helm history": "tests/kube/test_cluster.py::test_the_guides_commands_do_what_it_says",
    "helm rollback": "tests/kube/test_cluster.py::test_the_guides_commands_do_what_it_says",
}

# The guide's troubleshooting cases: what provokes each and reads its message.
CASES = {
    "#### 1. Connection Refused to Kafka": "tests/real/test_troubleshooting.py::test_1_connection_refused_to_kafka",
    "#### 2. Redis Connection Timeout": "tests/real/test_troubleshooting.py::test_2_redis_connection_timeout",
    "#### 3. Datadog API Unauthorized": "tests/real/test_troubleshooting.py::test_3_datadog_api_unauthorized",
    "#### 4. Out of Memory": "tests/real/test_image.py::test_4_out_of_memory",
    "#### 5. KEDA Not Scaling": "tests/kube/test_cluster.py::test_the_guides_commands_do_what_it_says",
}


def commands() -> list[str]:
    blocks = re.findall(r"```bash\n(.*?)```", GUIDE.read_text(), re.DOTALL)
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    return [re.sub(r" +", " ", line) for line in lines if line and not line.startswith("#")]


@pytest.mark.parametrize("command", commands())
def test_each_command_is_covered_or_it_is_said_why_not(command: str) -> None:
    assert [beginning for beginning in COVERED if command.startswith(beginning)], command


def test_nothing_is_covered_that_is_not_there() -> None:
    assert [beginning for beginning in COVERED if not any(each.startswith(beginning) for each in commands())] == []


def test_each_case_has_what_provokes_it() -> None:
    assert set(re.findall(r"^#### \d\. .*$", GUIDE.read_text(), re.MULTILINE)) == CASES.keys()


@pytest.mark.parametrize("test", [each for each in (*COVERED.values(), *CASES.values()) if "::" in each])
def test_what_covers_a_command_is_there(test: str) -> None:
    file, _, name = test.partition("::")
    assert f"def {name}(" in Path(tools.ROOT / file).read_text()


def test_every_variable_that_the_pages_name_is_one() -> None:
    for page in ("deployment.md", "runbook.md", "security.md", "sizing.md"):
        text = (GUIDE.parent / page).read_text()
        named = {name.removesuffix("_FILE") for name in re.findall(r"\bTSS_[A-Z_]+[A-Z]\b", text)}
        assert named <= VARIABLES.keys(), page
