"""`tss force` against what is no tss: one line, exit code 1, and the token goes nowhere else."""

from __future__ import annotations

import io
import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import attrs
import pytest

from tss.__main__ import main
from tss.commands import DONE, FAILED

TOKEN = {"TSS_FORCE_SAMPLING_ADMIN_TOKEN": "a-token-of-sixteen"}
RULE = {
    "id": "1", "name": "n", "action": "keep", "enabled": True, "expires": "x", "priority": 0, "revision": 1,
    "matchers": [{"on": "name", "op": "eq", "value": "a"}], "description": "",
}  # fmt: skip


@attrs.define
class Server:
    """Answers everything alike, and remembers who asked with which token."""

    status: int
    body: bytes
    headers: dict[str, str]
    url: str = ""
    tokens: list[str] = attrs.field(factory=list)


@contextmanager
def serving(status: int = 200, body: bytes = b"", **headers: str) -> Iterator[Server]:
    server = Server(status, body, headers)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            server.tokens.append(self.headers.get("Authorization", ""))
            self.send_response(server.status)
            for name, value in server.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(server.body)))
            self.end_headers()
            self.wfile.write(server.body)

        do_POST = do_CONNECT = do_GET

        def log_message(self, *_: object) -> None:
            return

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        server.url = f"http://127.0.0.1:{http.server_port}"
        thread = threading.Thread(target=http.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield server
        finally:
            http.shutdown()
            thread.join()


@contextmanager
def raw(answer: bytes) -> Iterator[str]:
    """A server that speaks no HTTP."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def answer_once() -> None:
            connection, _ = listening.accept()
            with connection:
                connection.recv(1000)
                connection.sendall(answer)

        thread = threading.Thread(target=answer_once)
        thread.start()
        yield f"127.0.0.1:{listening.getsockname()[1]}"
        thread.join()


@pytest.fixture
def said(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str]]:
    def run(url: str, *words: str) -> tuple[int, str]:
        code = main(["force", *(words or ("list",)), "--url", url], TOKEN)
        return code, capsys.readouterr().err

    return run


@pytest.mark.parametrize("body", [
    b"<html>hello</html>", b"", b"null", b"[]", b'{"rules": 5}', b'{"rules": [{"id": 1}]}', b'{"status": "ok"}', b"\xff\xfe",
    json.dumps({"rules": [RULE | {"matchers": [{}]}]}).encode(),
])  # fmt: skip
def test_what_is_no_tss_is_told_in_one_line(said: Callable[..., tuple[int, str]], body: bytes) -> None:
    with serving(body=body) as server:
        code, text = said(server.url)
    assert code == FAILED
    assert text.startswith(f"tss force: {server.url} answers 200") and text.count("\n") == 1
    assert "of a tss?" in text


def test_a_rule_that_is_none_is_told_where_one_was_made(said: Callable[..., tuple[int, str]]) -> None:
    with serving(body=b'{"rules": []}') as server:
        code, text = said(server.url, "add", "n", "--keep", "--match", "name eq a")
    assert (code, text.count("\n")) == (FAILED, 1)


def test_what_speaks_no_http_or_does_not_answer_is_told_in_one_line(said: Callable[..., tuple[int, str]]) -> None:
    for answer in (b"SSH-2.0-x\r\n", b"", b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nshort"):
        with raw(answer) as address:
            code, text = said(f"http://{address}")
        assert code == FAILED and text.count("\n") == 1, text
        assert text.startswith(("tss force: no answer", f"tss force: http://{address} answers 200 with no JSON"))
    with raw(b"no TLS here") as address:
        code, text = said(f"https://{address}")
        assert code == FAILED and text.count("\n") == 1
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        code, text = said(f"http://127.0.0.1:{closed.getsockname()[1]}")
    assert (code, text.count("\n")) == (FAILED, 1)
    assert "refused" in text
    for url in ("nonsense", "http://", "http://[::1", "ftp://127.0.0.1:1/x"):
        code, text = said(url)
        assert code == FAILED and text.count("\n") == 1, text


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_the_token_follows_no_redirect(said: Callable[..., tuple[int, str]], status: int) -> None:
    with serving(body=b'{"rules": []}') as other, serving(status, Location=f"{other.url}/x") as server:
        code, text = said(server.url)
        assert server.tokens == ["Bearer a-token-of-sixteen"] and other.tokens == []
    assert code == FAILED
    assert f"sends on to {other.url}/x" in text


def test_the_token_goes_to_no_proxy_of_the_environment(
    said: Callable[..., tuple[int, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    listed = json.dumps({"rules": [RULE]}).encode()
    with serving(body=listed) as server, serving(body=listed) as proxy:
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
            monkeypatch.setenv(name, proxy.url)
        for name in ("no_proxy", "NO_PROXY"):
            monkeypatch.delenv(name, raising=False)
        assert said(server.url) == (DONE, "")
        assert (len(server.tokens), proxy.tokens) == (1, [])
        assert said(server.url, "list", "--proxy") == (DONE, "")
        assert (len(server.tokens), len(proxy.tokens)) == (1, 1), "asked for, it is used"


def test_while_redis_is_away_the_list_says_from_when_it_is(said: Callable[..., tuple[int, str]]) -> None:
    with serving(body=b'{"rules": [], "asOf": "2026-01-01T00:00:00Z", "stale": "Redis has not answered"}') as server:
        code, text = said(server.url)
    assert (code, text) == (DONE, "tss force: these are the rules of 2026-01-01T00:00:00Z: Redis has not answered\n")


HOSTILE = "a\x1b[2J\u202e\nb\ud800"


def test_what_a_server_says_moves_no_cursor_and_begins_no_line(
    said: Callable[..., tuple[int, str]], capsys: pytest.CaptureFixture[str]
) -> None:
    matcher = {"on": HOSTILE, "key": HOSTILE, "op": HOSTILE, "value": HOSTILE}
    rule = RULE | dict.fromkeys(("id", "name", "action", "expires", "description"), HOSTILE) | {"matchers": [matcher]}
    with serving(body=json.dumps({"rules": [rule]}).encode()) as server:
        assert main(["force", "list", "--url", server.url], TOKEN) == DONE
        out = capsys.readouterr().out
        assert out.count("\n") == 3 and "a\\x1b[2J\\u202e\\nb\\ud800" in out
        assert all(line.isprintable() for line in out.splitlines())
        assert main(["force", "list", "--json", "--url", server.url], TOKEN) == DONE
        assert json.loads(capsys.readouterr().out) == [rule]
        code, text = said(server.url, "show", "another")
        assert code == FAILED and text.count("\n") == 1 and text.strip().isprintable()
    with serving(422, json.dumps({"error": HOSTILE, "fields": {HOSTILE: HOSTILE}}).encode()) as server:
        code, text = said(server.url)
        assert code == FAILED and text.count("\n") == 2 and text.replace("\n", "").isprintable()
    with serving(302, Location="http://x/\x1b[2J") as server:
        code, text = said(server.url)
        assert code == FAILED and text.strip().isprintable() and "\\x1b[2J" in text


def test_a_terminal_without_the_letter_gets_its_number(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = io.TextIOWrapper(io.BytesIO(), "ascii")
    monkeypatch.setattr("sys.stdout", terminal)
    with serving(body=json.dumps({"rules": [RULE | {"name": "über"}]}).encode()) as server:
        assert main(["force", "list", "--url", server.url], TOKEN) == DONE
    terminal.seek(0)
    assert "\\xfcber" in terminal.read()


@pytest.mark.parametrize("status", [200, 500])
def test_json_that_is_nested_too_deeply_is_told_in_one_line(said: Callable[..., tuple[int, str]], status: int) -> None:
    depths = (100_000, 900, 600)
    bodies = [b"[" * 200_000]
    for depth in depths:
        value = b"[" * depth + b"]" * depth
        rule = json.dumps({"rules": [RULE | {"matchers": [{"on": "a", "op": "eq", "value": 0}]}]}).encode()
        bodies.append(rule.replace(b'"value": 0', b'"value": ' + value))
    for body in bodies:
        with serving(status, body) as server:
            for words in (("list", "--json"), ("list",)):
                code, text = said(server.url, *words)
                assert (code, text) == (DONE, "") or (code == FAILED and text.count("\n") == 1), text
