"""`tss why` against replicas over real sockets: who is asked, what is merged, what is printed."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from tests.core.spans import trace_id
from tests.edges.web.test_reading import lookup
from tss.commands import DONE, FAILED
from tss.commands.parser import parse
from tss.commands.why import document, told

KEPT, DROPPED, OPEN, UNKNOWN = (trace_id(number).hex() for number in range(1, 5))
TOKEN = "0123456789abcdef"


@contextmanager
def replica(answers: Any = None, wait_secs: float = 0) -> Iterator[str]:
    """A server that answers as a replica does: `answers` by trace id, else what `lookup` knows."""
    seen = lookup()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            time.sleep(wait_secs)
            status: int
            found: Any
            if self.headers.get("Authorization") != f"Bearer {TOKEN}":
                status, found = 401, {"error": "the request has no token"}
            elif answers is not None:
                status, found = 200, answers
            else:
                found = seen.look(bytes.fromhex(self.path.rpartition("/")[2]))
                status = 404 if found["state"] == "unknown" else 200
            body = found if isinstance(found, bytes) else json.dumps(found).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()


def run(*arguments: str, token: str = TOKEN) -> int:
    options = parse(["why", *arguments], "tss")
    return options.call(options, {"TSS_OBSERVABILITY_READ_TOKEN": token})


def test_it_says_what_was_decided_and_why(capsys: pytest.CaptureFixture[str]) -> None:
    with replica() as url:
        assert run(KEPT.upper(), "--url", url) == DONE
        kept = capsys.readouterr().out
        assert run(DROPPED, "--url", url) == DONE
        dropped = capsys.readouterr().out
        assert run(OPEN, "--url", url) == DONE
        waits = capsys.readouterr().out
        assert run(UNKNOWN, "--url", url) == FAILED
        unknown = capsys.readouterr().out
    assert kept.startswith(f"{KEPT}: kept\n") and "  because  1 of 2 spans have status ERROR\n" in kept
    assert "vote     latency: keep 50 %: 6 ms >= 5 ms" in kept and "on pod-1, partition 7" in kept
    assert dropped.startswith(f"{DROPPED}: dropped\n") and "  policy   default, keeps 10 %\n" in dropped
    assert "  open     1 spans since 2023-11-14T22:13:50Z" in waits
    assert unknown.startswith(f"{UNKNOWN}: unknown\n") and "reaches back to 2023-11-14T22:14:01Z" in " ".join(
        unknown.split()
    )


def test_all_replicas_are_asked_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    """Ten replicas that take 0.2 s each answer together in far less than 2 s."""
    empty = {"state": "unknown", "unknownBecause": "another replica", "replica": "x"}
    with replica(empty, 0.2) as other, replica() as url:
        began = time.monotonic()
        assert run(KEPT, *["--url", other] * 9, "--url", url) == DONE
        assert time.monotonic() - began < 1.5
    assert f"{KEPT}: kept" in capsys.readouterr().out


def test_a_replica_without_an_answer_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    with replica() as url, replica(b"[" * 100_000) as stranger, replica({"state": "decided", "decisions": 3}) as odd:
        assert run(KEPT, "--url", url, "--url", "http://127.0.0.1:1", "--url", stranger, "--url", odd, "--json") == DONE
        found = json.loads(capsys.readouterr().out)
        assert set(found["unanswered"]) == {"http://127.0.0.1:1", stranger, odd}
        assert [each["verdict"] for each in found["decisions"]] == ["keep"]
        assert run(KEPT, "--url", url, token="wrong") == FAILED
    assert "the request has no token (401)" in capsys.readouterr().out


def test_no_line_is_wider_than_the_terminal() -> None:
    found = document(KEPT, [])
    known: Any = lookup().look(trace_id(2))
    found["decisions"] = [{"replica": "pod-1", **each} for each in known["decisions"]]
    for width in (60, 120):
        assert max(map(len, told(found, width))) <= width


def test_a_decision_made_again_after_a_restart_comes_second() -> None:
    from tss.commands.why import Answer

    answers = [
        Answer("a", {"state": "decided", "decisions": [{"origin": "replayed", "verdict": "drop"}]}),
        Answer("b", {"state": "decided", "decisions": [{"origin": "decided", "verdict": "drop"}]}),
    ]
    assert [each["origin"] for each in document(KEPT, answers)["decisions"]] == ["decided", "replayed"]


@pytest.mark.parametrize("wrong", ["", "abc", "0" * 32, "g" * 32, "a" * 33])
def test_a_wrong_trace_id_is_refused(wrong: str) -> None:
    with pytest.raises(SystemExit) as ended:
        run(wrong)
    assert ended.value.code == 2
