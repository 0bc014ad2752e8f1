"""A judge that is no model: a real HTTP server that compares what the prompt holds, or does what it is told to do."""

import ast
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

USAGE = {"prompt_tokens": 30, "completion_tokens": 5}


def completion(text: Any, **more: Any) -> bytes:
    """A reply as OpenAI's API has it."""
    body = {"model": "fake-1", "choices": [{"message": {"role": "assistant", "content": text}}], "usage": USAGE, **more}
    return json.dumps(body).encode()


class FakeJudge(ThreadingHTTPServer):
    """Counts and keeps what it is asked.

    Attributes:
        answer: what is said to a request's body: a text, or bytes for the whole body, or a handler's own doing.
        asked: bodies of all requests, in order. headers: theirs.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answer: Callable[[dict[str, Any]], Any] = lambda body: verdict(fields(body))
        self.asked: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.paths: list[str] = []
        self.lock = threading.Lock()
        self.under_way = self.most_under_way = 0
        self.let_go = threading.Event()  # of those that hang

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that hang up are part of the tests."""


class _Handler(BaseHTTPRequestHandler):
    server: FakeJudge
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with self.server.lock:
            self.server.asked.append(body)
            self.server.headers.append(dict(self.headers))
            self.server.paths.append(self.path)
            self.server.under_way += 1
            self.server.most_under_way = max(self.server.most_under_way, self.server.under_way)
        try:
            said = self.server.answer(body)
        finally:
            with self.server.lock:
                self.server.under_way -= 1
        if callable(said):
            said(self)
        else:
            send(200, completion(said) if isinstance(said, str) else said)(self)

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing on standard error."""


def send(
    status: int, body: bytes = b"{}", kind: str = "application/json", length: int | None = None, **headers: str
) -> Callable[[_Handler], None]:
    """Reply so; `length` may lie."""

    def reply(handler: _Handler) -> None:
        handler.send_response(status)
        handler.send_header("Content-Type", kind)
        handler.send_header("Content-Length", str(len(body) if length is None else length))
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.end_headers()
        handler.wfile.write(body)
        handler.close_connection = True

    return reply


def hang(handler: _Handler) -> None:
    """Say nothing, for a long time."""
    handler.server.let_go.wait(20)
    handler.close_connection = True


def dribble(handler: _Handler) -> None:
    """Say a little, again and again, so that no single wait is long."""
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nX-Slow: ")
    for _ in range(200):
        if handler.server.let_go.wait(0.05):
            break
        handler.wfile.write(b"a")
        handler.wfile.flush()
    handler.close_connection = True


def fields(body: dict[str, Any]) -> dict[str, Any]:
    """What a prompt of ours holds: question, correct answer, predicted answer."""
    found = {}
    for line in body["messages"][1]["content"].split("\n"):
        label, mark, value = line.partition(": ")
        if mark and label.lower().split(" to ")[0] in _LABELS:
            try:
                found[label.lower()] = json.loads(value)
            except ValueError:
                found[label.lower()] = ast.literal_eval(value) if value.startswith("['") else value
    return found


_LABELS = ("question", "question 1", "question 2", "correct answer", "predicted answer")


def verdict(held: dict[str, Any]) -> str:
    """Yes and 5 where the prediction is one of the correct answers, else no and 1."""
    right = held["correct answer"]
    predictions = [value for label, value in held.items() if label.startswith("predicted")]
    same = all(p == right or (isinstance(right, list) and p in right) for p in predictions)
    return json.dumps({"pred": "yes" if same else "no", "score": 5 if same else 1})


@contextmanager
def fake_judge(server: FakeJudge | None = None) -> Iterator[FakeJudge]:
    """A server on a free port, for as long as it is needed."""
    server = server or FakeJudge()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        server.let_go.set()
        server.shutdown()
        thread.join()
        server.server_close()
