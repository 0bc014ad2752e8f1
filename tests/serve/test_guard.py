"""Authentication, origins, sizes and pace, on every route."""

import base64
import socket
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.routing import Route

from videollama2.engine import Engine
from videollama2.errors import UsageError
from videollama2.serve.app import create_app
from videollama2.serve.running import in_thread
from videollama2.serve.settings import RequestLimits, ServeSettings

KEYS = ("first-secret-key", "second-secret-key")
STRICT = ServeSettings(
    api_keys=KEYS, hosts=("127.0.0.1",), cors_origins=("https://good.example",), shutdown_seconds=2, body_seconds=0.5,
    max_text_bytes=20_000, max_upload_bytes=50_000,
    limits=RequestLimits(max_request_media_bytes=30_000, media_workers=1),
)  # fmt: skip


@pytest.fixture(scope="module")
def strict_app(engine: Engine) -> Any:
    return create_app(engine, STRICT)


@pytest.fixture(scope="module")
def strict(strict_app: Any) -> Iterator[httpx.Client]:
    with in_thread(strict_app, STRICT) as (url, _), httpx.Client(base_url=url) as client:
        yield client


def test_every_route_needs_a_key(strict: httpx.Client, strict_app: Any) -> None:
    routes = [r for r in strict_app.routes if isinstance(r, Route)]
    places = {(method, r.path.replace("{", "").replace("}", "")) for r in routes for method in r.methods or ()}
    assert {path for _, path in places} >= {
        "/openapi.json", "/metrics", "/health", "/ready", "/v1/models", "/v1/files", "/v1/chat/completions"
    }  # fmt: skip
    for method, path in sorted(places | {("GET", "/"), ("GET", "/nowhere"), ("POST", "/docs")}):
        for headers in (
            {},
            {"Authorization": "Basic ???"},
            {"Authorization": f"Token {KEYS[0]}"},
            {"Authorization": f"Bearer {KEYS[0]}x"},
        ):
            answer = strict.request(method, path, headers=headers)
            assert answer.status_code == 401, (method, path)
            assert "Bearer" in answer.headers["WWW-Authenticate"]
    basic = base64.b64encode(f"anyone:{KEYS[0]}".encode()).decode()
    for headers in ({"Authorization": f"Bearer {KEYS[1]}"}, {"Authorization": f"Basic {basic}"}):
        assert strict.get("/health", headers=headers).json() == {"status": "ok"}


@pytest.fixture
def allowed(strict: httpx.Client) -> httpx.Client:
    strict.headers["Authorization"] = f"Bearer {KEYS[0]}"
    return strict


def test_hosts_and_origins(allowed: httpx.Client) -> None:
    assert allowed.get("/health", headers={"Host": "evil.example"}).status_code == 421
    for origin in ("https://evil.example", "null", "http://127.0.0.1:1", "http://["):
        assert allowed.get("/health", headers={"Origin": origin}).status_code == 403
    own = str(allowed.base_url).rstrip("/")
    assert allowed.get("/health", headers={"Origin": own}).status_code == 200
    answer = allowed.get("/health", headers={"Origin": "https://good.example"})
    assert answer.headers["Access-Control-Allow-Origin"] == "https://good.example"
    ask = {"Access-Control-Request-Method": "POST"}
    assert allowed.options("/v1/files", headers={"Origin": "https://good.example", **ask}).status_code == 200
    assert allowed.options("/v1/files", headers={"Origin": "https://evil.example", **ask}).status_code == 400


def test_pages_of_other_origins_are_rejected_by_default(url: str) -> None:
    answer = httpx.options(
        f"{url}/v1/files", headers={"Origin": "https://x.example", "Access-Control-Request-Method": "POST"}
    )
    assert answer.status_code == 403 and "Access-Control-Allow-Origin" not in answer.headers


def test_requests_have_ids(allowed: httpx.Client) -> None:
    assert allowed.get("/health", headers={"X-Request-ID": "my-own-id-1"}).headers["X-Request-ID"] == "my-own-id-1"
    made = allowed.get("/health", headers={"X-Request-ID": "bad id!"}).headers["X-Request-ID"]
    assert made.startswith("req-")


def pieces(total: int, size: int = 4096) -> Iterator[bytes]:
    for _ in range(total // size):
        yield b"x" * size


@pytest.mark.parametrize(("path", "most"), [("/v1/chat/completions", 70_000), ("/v1/files", 120_000)])
def test_a_body_is_counted_while_it_arrives(allowed: httpx.Client, path: str, most: int) -> None:
    kind = {"Content-Type": "multipart/form-data; boundary=b" if path == "/v1/files" else "application/json"}
    declared = allowed.post(path, content=b"x" * (most + 1), headers=kind)
    assert declared.status_code == 413
    told: list[int] = []

    def endless() -> Iterator[bytes]:
        for piece in pieces(100 * most):
            told.append(len(piece))
            yield piece

    try:
        assert allowed.post(path, content=endless(), headers=kind).status_code in (400, 413)
    except httpx.WriteError:  # the server closed while we were still talking
        assert sum(told) < 100 * most
    assert allowed.get("/health").status_code == 200


def test_false_lengths_and_compressed_bodies(allowed: httpx.Client) -> None:
    packed = allowed.post("/v1/chat/completions", content=b"{}", headers={"Content-Encoding": "gzip"})
    assert packed.status_code == 415
    host, port = allowed.base_url.host, allowed.base_url.port
    for length in ("9" * 15, "9" * 30, "-1", "0x10", "1, 2"):
        with socket.create_connection((host, port or 80), timeout=5) as liar:
            liar.sendall(
                f"POST /v1/chat/completions HTTP/1.1\r\nHost: {host}:{port}\r\nAuthorization: Bearer {KEYS[0]}\r\n"
                f"Content-Length: {length}\r\n\r\n{{}}".encode()
            )
            assert liar.recv(100).split()[1] in (b"400", b"413")


def test_two_lengths_are_rejected_and_the_rest_is_not_read(allowed: httpx.Client) -> None:
    host, port = allowed.base_url.host, allowed.base_url.port
    with socket.create_connection((host, port or 80), timeout=5) as liar:
        liar.sendall(
            f"POST /v1/chat/completions HTTP/1.1\r\nHost: {host}:{port}\r\nAuthorization: Bearer {KEYS[0]}\r\n"
            "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
            f"GET /health HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n".encode()
        )
        said = b""
        while piece := liar.recv(4096):
            said += piece
        assert said.count(b"HTTP/1.1") == 1 and b"two_lengths" in said


def test_a_slow_body_times_out(allowed: httpx.Client) -> None:
    host, port = allowed.base_url.host, allowed.base_url.port
    with socket.create_connection((host, port or 80), timeout=5) as slow:
        slow.sendall(
            f"POST /v1/chat/completions HTTP/1.1\r\nHost: {host}:{port}\r\nAuthorization: Bearer {KEYS[0]}\r\n"
            "Content-Type: application/json\r\nContent-Length: 1000\r\n\r\n{".encode()
        )
        started = time.monotonic()
        assert b" 408 " in slow.recv(1000)
        assert time.monotonic() - started < 3


def test_slow_headers_time_out(allowed: httpx.Client) -> None:
    host, port = allowed.base_url.host, allowed.base_url.port
    used = f"GET /health HTTP/1.1\r\nHost: {host}:{port}\r\nAuthorization: Bearer {KEYS[0]}\r\n\r\n"
    for before in ("", used):
        with socket.create_connection((host, port or 80), timeout=8) as slow:
            slow.sendall(before.encode())
            got = b""
            while before and not got.endswith(b"}"):
                got += slow.recv(4096)
            assert b" 200 " in got or not before
            slow.sendall(b"GET / HTTP/1.1\r\nX: ")
            assert slow.recv(100) == b""  # closed


def test_too_many_media(allowed: httpx.Client) -> None:
    part = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
    body = {"model": "tiny", "messages": [{"role": "user", "content": [part] * 17}]}
    answer = allowed.post("/v1/chat/completions", json=body)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "too_many_media")


@pytest.mark.parametrize(
    "wrong",
    [
        {"api_keys": ("short",)}, {"api_keys": ("has a space in it",)}, {"cors_origins": ("*",)}, {"queue_size": 0},
        {"request_seconds": float("nan")}, {"default_tokens": 10_000}, {"max_batch_size": 0},
        {"file_seconds": float("inf")},
    ],
)  # fmt: skip
def test_invalid_settings(wrong: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        replace(ServeSettings(), **wrong)


def test_the_guards_errors_have_no_paths(allowed: httpx.Client, tmp_path: Path) -> None:
    for path in ("/v1/files/../../etc/passwd", "/v1/files/%2e%2e%2fx", "/v1/files/file-" + "0" * 32):
        answer = allowed.get(path)
        assert answer.status_code == 404 and "/" not in answer.json()["error"]["message"]
