"""What the last lines say, and the exit code: of several errors the worst comes first, and all are told."""

import pytest
import structlog.testing

from tss.commands import FAILED, WRONG_USE
from tss.commands.run import _tell
from tss.core.errors import CannotConnect, LawBroken, StoppedAtOnce, WrongSetting
from tss.daemon.outside import names_setting
from tss.edges.files.lines import CannotOpen

REFUSED = CannotConnect("Failed to connect to Kafka: refused, check kafka.saslPassword")
LAW = LawBroken("a settled offset was settled again, which would break law 1")
WRONG = WrongSetting("exporters, file: cannot be opened")
SURPRISE = OSError(24, "Too many open files")
AT_ONCE = StoppedAtOnce("SIGTERM")


def told(*errors: BaseException) -> tuple[int, list[dict]]:
    with structlog.testing.capture_logs() as logged:
        code = _tell(BaseExceptionGroup("nursery", [errors[0], BaseExceptionGroup("inner", errors)][: len(errors)]))
    return code, [dict(entry) for entry in logged]


@pytest.mark.parametrize("errors", [(REFUSED, LAW), (LAW, REFUSED), (AT_ONCE, WRONG, LAW), (WRONG, SURPRISE, LAW)])
def test_a_broken_law_is_never_hidden(errors):
    code, logged = told(*errors)
    assert code == FAILED
    assert logged[0]["event"] == str(LAW)
    assert logged[0]["exc_info"] is LAW
    assert {entry["event"] for entry in logged} >= {str(each) for each in errors if each is not AT_ONCE}


def test_an_unexpected_error_keeps_its_traceback_and_what_is_expected_needs_none():
    code, logged = told(WRONG, REFUSED, SURPRISE, AT_ONCE)
    assert code == FAILED
    first, *others = [entry for entry in logged if entry["log_level"] == "critical"]
    assert first["exc_info"] is SURPRISE
    assert all(entry["exc_info"] is None for entry in others)
    assert logged[-1]["event"].startswith("stopped at once by a second signal")


@pytest.mark.parametrize(
    ("errors", "code"), [((REFUSED, WRONG), WRONG_USE), ((REFUSED,), FAILED), ((AT_ONCE,), FAILED)]
)
def test_the_exit_code_is_that_of_the_worst(errors, code):
    assert told(*errors)[0] == code


def test_only_a_file_that_cannot_be_used_is_a_fault_of_the_settings():
    """Exit code 2 says: do not start it again. Too many open files, or a socket that breaks, pass."""
    with pytest.raises(WrongSetting, match="exporters, file: /x: cannot be opened"), names_setting("exporters, file"):
        raise CannotOpen(13, "Permission denied", "/x")
    with pytest.raises(OSError, match="Too many open files"), names_setting("exporters, file"):
        raise SURPRISE
