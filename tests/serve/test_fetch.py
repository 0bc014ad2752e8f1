"""Media by URL: known SSRF tricks, and a check that no other module can fetch."""

import ast
import gzip
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from videollama2.errors import MediaTooLarge, UnreadableMedia, UsageError, VideoLlama2Error
from videollama2.serve.addresses import is_public, read_url
from videollama2.serve.fetch import Fetcher
from videollama2.serve.settings import RequestLimits

PACKAGE = Path(__file__).parents[2] / "src" / "videollama2"
PUBLIC = "93.184.215.14"
Reply = Callable[[socket.socket, bytes], None]


def answering(head: str, body: bytes = b"", pause: float = 0.0) -> Reply:
    def reply(sock: socket.socket, _: bytes) -> None:
        sock.sendall(head.replace("\n", "\r\n").encode() + b"\r\n")
        for i in range(0, len(body), 1 << 14):
            sock.sendall(body[i : i + (1 << 14)])
            time.sleep(pause)

    return reply


OK = answering("HTTP/1.1 200 OK\nContent-Length: 5\n", b"hello")


class World:
    """A fake name service and network with one server; records lookups, connections and requests."""

    def __init__(self) -> None:
        self.hosts: dict[str, list[str]] = {"media.example.org": [PUBLIC]}
        self.replies: list[Reply] = []
        self.looked_up: list[str] = []
        self.connected: list[tuple[str, int]] = []
        self.asked: list[bytes] = []
        self._server = socket.create_server(("127.0.0.1", 0))
        self._server.settimeout(20)
        threading.Thread(target=self._serve, daemon=True).start()

    def lookup(self, host: str, port: int) -> list[tuple[Any, ...]]:
        self.looked_up.append(host)
        if host not in self.hosts:
            raise socket.gaierror(8, "unknown")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in self.hosts[host]]

    def connect(self, address: str, port: int, seconds: float) -> socket.socket:
        self.connected.append((address, port))
        return socket.create_connection(self._server.getsockname(), seconds)

    def fetcher(self, **limits: Any) -> Fetcher:
        told = {"url_hosts": ("media.example.org", ".cdn.example.org"), "url_schemes": ("http",), "url_seconds": 5.0}
        return Fetcher(RequestLimits(**{**told, **limits}), lookup=self.lookup, connect=self.connect)

    def close(self) -> None:
        self._server.close()

    def _serve(self) -> None:
        while True:
            try:
                sock, _ = self._server.accept()
                sock.settimeout(10)
                with sock:
                    self.asked.append(sock.recv(1 << 16))
                    if self.replies:
                        self.replies.pop(0)(sock, self.asked[-1])
            except TimeoutError:
                return
            except OSError:
                if self._server.fileno() < 0:
                    return


@pytest.fixture
def world() -> Iterator[World]:
    made = World()
    yield made
    made.close()


def refused(fetcher: Fetcher, url: str, kind: type[VideoLlama2Error] = UsageError) -> str:
    with pytest.raises(kind) as caught:
        fetcher.fetch(url)
    assert type(caught.value) is kind
    secrets = ("0x", "Errno", "Traceback", *(() if kind is UsageError else ("127.0.0.1", "10.0.0", PUBLIC)))
    assert not any(secret in str(caught.value) for secret in secrets)
    return str(caught.value)


# ── addresses ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_off_by_default(world: World) -> None:
    assert RequestLimits().url_hosts == ()
    assert "does not allow media by URL" in refused(world.fetcher(url_hosts=()), "http://media.example.org/a.mp4")
    assert not world.looked_up


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1/", "http://127.1/", "http://2130706433/", "http://0x7f000001/", "http://0177.0.0.1/",
        "http://0x7f.0.0.1/", "http://127.0.0.1.:80/", "http://0/", "http://017700000001/", "http://127.0.0.0x1/",
        "http://[::1]/", "http://[::ffff:127.0.0.1]/", "http://[::ffff:7f00:1]/", "http://[64:ff9b::7f00:1]/",
        "http://[fe80::1%25eth0]/", "http://[2002:7f00:1::]/", "http://[media.example.org]/", "http://169.254.169.254/latest",
        "http://media.example.org@127.0.0.1/", "http://127.0.0.1@media.example.org/", "http://a:b@media.example.org/",
        "http://127.0.0.1:6666\\@media.example.org/", "http://media.example.org\\@127.0.0.1/",
        "http://media.example.org\\.evil.example/", "http://media.example.org:80@evil.example/",
        "http://evil.example/media.example.org", "http://media.example.org.evil.example/", "http://evilmedia.example.org/",
        "http://cdn.example.org/", "http://.cdn.example.org/", "http://evilcdn.example.org/", "http://media.example.org./",
        "http://evil.example#@media.example.org/", "http://evil.example?@media.example.org/", "http:///media.example.org/",
        "http://media.example.org%2f@evil.example/", "http://media%2eexample.org/", "http://ｍedia.example.org/",
        "http://media。example。org/", "http://media.example.org\t/", "http://media.example.org/\r\nX: y", " http://media.example.org/",
        "http://media.example.org:0080x/", "http://media.example.org:22/", "http://media.example.org:6379/", "http://media.example.org:/",
        "http://media.example.org:99999/", "http://media.example.org:-80/", "http://media..example.org/", "http://localhost/",
        "https://media.example.org/", "ftp://media.example.org/", "file:///etc/passwd", "file://media.example.org/etc/passwd",
        "gopher://media.example.org/", "rtsp://media.example.org/", "media.example.org/a.mp4", "//media.example.org/",
        "http:media.example.org",
        "http://", "", "http://media.example.org/" + "a" * 5000, "data:video/mp4;base64,AAAA", "concat:http://media.example.org/",
        "http://media.example.org /", "http://media_example.org/", "http://-media.example.org/", "http://media.example.org\0/",
    ],
)  # fmt: skip
def test_rejected_urls(world: World, url: str) -> None:
    refused(world.fetcher(), url)
    assert not world.looked_up and not world.connected


def test_an_allowed_url_is_parsed_in_one_way() -> None:
    allowed: Any = {"schemes": ("http", "https"), "ports": (80, 443, 8080), "hosts": ("media.example.org", "1.2.3.4")}
    target = read_url("HTTP://Media.Example.ORG:8080/a%20b/../c?x=@y&z#t=3", **allowed)
    assert (target.scheme, target.host, target.port, target.path) == (
        "http", "media.example.org", 8080, "/a%20b/../c?x=@y&z",
    )  # fmt: skip
    assert target.authority == "media.example.org:8080"
    assert read_url("https://media.example.org", **allowed).path == "/"
    assert read_url("https://media.example.org?a", **allowed).path == "/?a"
    assert read_url("http://1.2.3.4/", **allowed).host == "1.2.3.4"


@pytest.mark.parametrize(
    "address",
    "127.0.0.1 127.255.1.2 0.0.0.0 0.1.2.3 10.1.2.3 172.16.0.1 172.31.255.255 192.168.1.1 169.254.169.254 100.64.0.1 "
    "100.127.255.255 192.0.0.170 192.0.2.1 198.18.0.1 198.51.100.1 203.0.113.1 224.0.0.1 239.255.255.250 240.0.0.1 "
    "255.255.255.255 192.88.99.1 ::1 :: ::ffff:127.0.0.1 ::ffff:8.8.8.8 ::127.0.0.1 64:ff9b::7f00:1 64:ff9b::808:808 "
    "64:ff9b:1::1 fe80::1 fe80::1%eth0 fec0::1 fc00::1 fd12::1 ff02::1 2002:7f00:1:: 2002:808:808:: 2001::1 "
    "2001:db8::1 3fff::1 100::1 5f00::1 2606:4700::1%eth0 localhost 1 0x7f000001 127.1".split(),
)
def test_private_addresses(address: str) -> None:
    assert not is_public(address)


def test_public_addresses() -> None:
    assert all(
        is_public(one) for one in (PUBLIC, "8.8.8.8", "100.128.0.1", "172.32.0.1", "2606:4700::1", "2a00:1450::1")
    )


def test_one_private_record_among_public_ones(world: World) -> None:
    world.hosts["media.example.org"] = [PUBLIC, "10.0.0.7", "8.8.8.8"]
    said = refused(world.fetcher(), "http://media.example.org/", UnreadableMedia)
    assert "outside the public Internet" in said and not world.connected


def test_the_host_is_looked_up_once(world: World) -> None:
    """DNS rebinding: public when checked, private at the next lookup."""
    lookup = world.lookup

    def rebinding(host: str, port: int) -> list[tuple[Any, ...]]:
        found = lookup(host, port)
        world.hosts[host] = ["127.0.0.1"]
        return found

    fetcher = Fetcher(
        RequestLimits(url_hosts=("media.example.org",), url_schemes=("http",)), lookup=rebinding, connect=world.connect
    )
    world.replies = [OK]
    assert fetcher.fetch("http://media.example.org/a?b") == b"hello"
    assert world.looked_up == ["media.example.org"] and world.connected == [(PUBLIC, 80)]
    asked = world.asked[0].decode()
    assert asked.startswith("GET /a?b HTTP/1.1\r\n") and "\r\nHost: media.example.org\r\n" in asked
    assert "Accept-Encoding: identity" in asked and "ookie" not in asked
    refused(fetcher, "http://media.example.org/a", UnreadableMedia)


def test_no_proxy_is_used(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    world.hosts["a.b.cdn.example.org"] = [PUBLIC]
    world.replies = [OK]
    assert world.fetcher().fetch("http://a.b.cdn.example.org/") == b"hello"
    assert world.connected == [(PUBLIC, 80)]


def test_the_next_address_is_tried(world: World) -> None:
    world.hosts["media.example.org"] = ["8.8.4.4", PUBLIC]

    def connect(address: str, port: int, seconds: float) -> socket.socket:
        if address == "8.8.4.4":
            raise ConnectionRefusedError
        return world.connect(address, port, seconds)

    world.replies = [OK]
    limits = RequestLimits(url_hosts=("media.example.org",), url_schemes=("http",))
    assert Fetcher(limits, lookup=world.lookup, connect=connect).fetch("http://media.example.org/") == b"hello"


def test_hosts_that_are_not_found(world: World) -> None:
    world.hosts.clear()
    refused(world.fetcher(), "http://media.example.org/", UnreadableMedia)
    slow = Fetcher(
        RequestLimits(url_hosts=("media.example.org",), url_schemes=("http",), url_seconds=0.2),
        lookup=lambda host, port: time.sleep(1) or [],  # type: ignore[func-returns-value]
    )
    assert "took too long" in refused(slow, "http://media.example.org/", UnreadableMedia)
    world.hosts["media.example.org"] = []
    refused(world.fetcher(), "http://media.example.org/", UnreadableMedia)


# ── redirects ──────────────────────────────────────────────────────────────────────────────────────────────────────


def to(where: str, status: int = 302) -> Reply:
    return answering(f"HTTP/1.1 {status} Found\nLocation: {where}\nContent-Length: 0\n")


def test_redirects_to_allowed_hosts_are_followed(world: World) -> None:
    world.hosts["x.cdn.example.org"] = ["8.8.8.8"]
    world.replies = [to("/other?a=b", 301), to("http://x.cdn.example.org/c", 307), OK]
    assert world.fetcher().fetch("http://media.example.org/") == b"hello"
    assert world.connected == [(PUBLIC, 80), (PUBLIC, 80), ("8.8.8.8", 80)]
    assert [asked.split()[1] for asked in world.asked] == [b"/", b"/other?a=b", b"/c"]


@pytest.mark.parametrize(
    "where",
    [
        "http://127.0.0.1/", "http://169.254.169.254/latest/meta-data", "http://media.example.org:22/", "http://[::1]/",
        "file:///etc/passwd", "ftp://media.example.org/", "//evil.example/", "http://evil.example/",
        "http:\\\\127.0.0.1",
        "http://127.0.0.1\\@media.example.org/", "http://media.example.org@127.0.0.1/", "http://[", "http://2130706433/",
        "gopher://media.example.org/", "data:text/plain,x", "///127.0.0.1/", "/\\127.0.0.1/x",
    ],
)  # fmt: skip
def test_redirects_are_checked_like_the_url(world: World, where: str) -> None:
    world.replies = [to(where), OK]
    try:
        world.fetcher().fetch("http://media.example.org/")
    except UsageError as error:
        assert "is not followed" in str(error)
    assert all(one == (PUBLIC, 80) for one in world.connected), "nobody else was asked"


def test_a_redirect_to_a_host_with_a_private_address(world: World) -> None:
    world.hosts["in.cdn.example.org"] = ["192.168.0.10"]
    world.replies = [to("http://in.cdn.example.org/")]
    refused(world.fetcher(), "http://media.example.org/", UnreadableMedia)
    assert len(world.connected) == 1


def test_endless_redirects(world: World) -> None:
    world.replies = [to("/again") for _ in range(10)]
    assert "more than 3 times" in refused(world.fetcher(), "http://media.example.org/", UnreadableMedia)
    assert len(world.connected) == 4
    world.replies = [answering("HTTP/1.1 302 Found\nContent-Length: 0\n")]
    refused(world.fetcher(), "http://media.example.org/", UnreadableMedia)


# ── sizes, times and forms of answers ──────────────────────────────────────────────────────────────────────────────


def test_sizes_are_counted_while_reading(world: World) -> None:
    fetcher = world.fetcher(url_max_bytes=100_000)
    big = b"x" * 5_000_000
    sent: list[int] = []

    def endless(sock: socket.socket, _: bytes) -> None:
        sock.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        try:
            for _ in range(2000):
                sock.sendall(big[:50_000])
                sent.append(50_000)
        except OSError:
            return

    chunk = b"20000\r\n" + b"x" * 0x20000 + b"\r\n"
    for reply in (
        answering("HTTP/1.1 200 OK\nContent-Length: 5000000\n"),
        endless,
        answering("HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n", chunk * 4),
    ):
        world.replies = [reply]
        refused(fetcher, "http://media.example.org/", MediaTooLarge)
    assert sum(sent) < 60_000_000, "reading stopped"
    world.replies = [OK]
    with pytest.raises(MediaTooLarge):
        fetcher.fetch("http://media.example.org/", 4)
    world.replies = [OK]
    assert fetcher.fetch("http://media.example.org/", 1 << 40) == b"hello", "a caller's limit only lowers"


@pytest.mark.parametrize(
    "reply",
    [
        answering("HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n", b"-1\r\n" + b"x" * 9_000_000),
        answering("HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n", b"-5\r\nabc\r\n"),
        answering("HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n", b"zz\r\nabc\r\n"),
        answering("HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n", b"5\r\nab"),
        answering("HTTP/1.1 200 OK\nContent-Length: 50\n", b"short"),
        answering("HTTP/1.1 200 OK\nContent-Length: 0\n"),
        answering("HTTP/1.1 200 OK\n", b""),
        answering("HTTP/1.1 200 OK\nContent-Encoding: gzip\n", gzip.compress(b"x" * 1000)),
        answering("HTTP/1.1 404 Not Found\nContent-Length: 5\n", b"hello"),
        answering("HTTP/1.1 206 Partial\nContent-Length: 5\n", b"hello"),
        answering("HTTP/1.1 100 Continue\n\n" * 20_000),
        answering("HTTP/1.1 200 OK\n" + "".join(f"X-{i}: y\n" for i in range(300))),
        answering("HTTP/1.1 200 OK\nX: " + "y" * 200_000 + "\n"),
        answering("hello\n"),
        answering("HTTP/1.1 abc OK\n"),
        lambda sock, _: None,
    ],
)
def test_invalid_responses(world: World, reply: Reply) -> None:
    world.replies = [reply, OK]
    fetcher = world.fetcher(url_max_bytes=100_000)
    refused(fetcher, "http://media.example.org/", UnreadableMedia)
    assert fetcher.fetch("http://media.example.org/") == b"hello", "and the next one comes"


def test_one_deadline_covers_everything(world: World) -> None:
    def drip(sock: socket.socket, _: bytes) -> None:
        for byte in b"HTTP/1.1 200 OK\r\nX: " + b"y" * 1000:
            sock.sendall(bytes([byte]))
            time.sleep(0.05)

    for reply in (drip, answering("HTTP/1.1 200 OK\n", b"x" * (1 << 19), pause=0.1), lambda sock, _: time.sleep(1)):
        world.replies = [reply]
        begun = time.monotonic()
        refused(world.fetcher(url_seconds=0.4), "http://media.example.org/", UnreadableMedia)
        assert time.monotonic() - begun < 2


def test_concurrent_downloads_are_limited(world: World) -> None:
    release = threading.Event()

    def late(sock: socket.socket, asked: bytes) -> None:
        release.wait(5)
        OK(sock, asked)

    world.replies = [late]
    fetcher = world.fetcher(url_concurrency=1)
    found: list[bytes] = []
    first = threading.Thread(target=lambda: found.append(fetcher.fetch("http://media.example.org/")))
    first.start()
    while not world.asked:
        time.sleep(0.01)
    object.__setattr__(fetcher.limits, "url_seconds", 0.1)
    assert "at once" in refused(fetcher, "http://media.example.org/", UnreadableMedia)
    release.set()
    first.join()
    assert found == [b"hello"]


def test_tls_verifies_the_name_and_connects_to_the_address(world: World, tmp_path: Path) -> None:
    key, cert = tmp_path / "key.pem", tmp_path / "cert.pem"
    made = subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
         "-subj", "/CN=media.example.org", "-addext", "subjectAltName=DNS:media.example.org",
         "-keyout", str(key), "-out", str(cert)], capture_output=True, check=False,
    )  # fmt: skip
    if made.returncode:
        pytest.skip("openssl can't make a certificate here")
    ours = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ours.load_cert_chain(cert, key)
    named: list[str | None] = []
    ours.sni_callback = lambda sock, name, context: named.append(name)

    def connect(address: str, port: int, seconds: float) -> socket.socket:
        world.connected.append((address, port))
        near, far = socket.socketpair()

        def serve() -> None:
            try:
                with ours.wrap_socket(far, server_side=True) as sock:
                    OK(sock, sock.recv(1 << 16))
            except OSError:
                far.close()

        threading.Thread(target=serve, daemon=True).start()
        near.settimeout(seconds)
        return near

    world.hosts["x.cdn.example.org"] = [PUBLIC]
    limits = RequestLimits(url_hosts=("media.example.org", ".cdn.example.org"))
    trusting = ssl.create_default_context(cafile=str(cert))
    fetcher = Fetcher(limits, lookup=world.lookup, connect=connect, tls=trusting)
    assert fetcher.fetch("https://media.example.org/") == b"hello"
    assert named == ["media.example.org"] and world.connected == [(PUBLIC, 443)]
    assert "certificate" in refused(fetcher, "https://x.cdn.example.org/", UnreadableMedia)
    strict = Fetcher(limits, lookup=world.lookup, connect=connect)
    assert "certificate" in refused(strict, "https://media.example.org/", UnreadableMedia)


def test_invalid_settings() -> None:
    for wrong in ({"url_hosts": ("*.example.org",)}, {"url_hosts": ("http://a.org",)}, {"url_hosts": (".",)},
                  {"url_schemes": ("file",)}, {"url_seconds": 0.0}, {"url_seconds": float("nan")}, {"max_media": 0},
                  {"max_data_bytes": -1}, {"url_hosts": ("A.org",)}, {"decode_seconds": float("inf")}):  # fmt: skip
        with pytest.raises(UsageError):
            RequestLimits(**wrong)  # type: ignore[arg-type]


# ── one fetcher ────────────────────────────────────────────────────────────────────────────────────────────────────

# Who may open a connection, with the reason. Weights are downloaded by huggingface_hub, from its own host.
FETCHERS = {
    "bounded_http.py": "connects for these, and bounds what they receive",
    "serve/fetch.py": "media by URL, from hosts that the server's operator listed",
    "serve/addresses.py": "looks up the hosts of these",
    "evals/judge/http.py": "the judge's endpoint, which the user of the command line names",
    "remote.py": "rows and manifests of batch jobs, which the user of the command line names",
    "backends/ray/start.py": "asks whether the cluster answers that --ray names",
}
NETWORK = {
    "socket", "ssl", "http.client", "urllib.request", "urllib3", "requests", "httpx", "httpx2", "aiohttp", "ftplib",
    "telnetlib", "smtplib", "websockets", "pycurl", "xmlrpc", "asyncio.streams", "paramiko", "fsspec", "smart_open",
}  # fmt: skip


def test_no_other_module_fetches() -> None:
    found: dict[str, set[str]] = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.level == 0:
                names = [node.module or "", *(f"{node.module}.{a.name}" for a in node.names)]
            called = ast.unparse(node.func) if isinstance(node, ast.Call) else ""
            used = {n for n in names if n in NETWORK or n.partition(".")[0] in NETWORK - {"http.client"}}
            if called.endswith(("urlopen", "urlretrieve", "create_connection", "open_connection")):
                used.add(called)
            if used:
                found.setdefault(path.relative_to(PACKAGE).as_posix(), set()).update(used)
    others = {name: used for name, used in found.items() if name not in FETCHERS}
    assert not others, "media by URL come through serve/fetch.py; another reason stands in FETCHERS"
    assert {"bounded_http.py", "serve/fetch.py", "serve/addresses.py", "evals/judge/http.py"} <= set(found)


def test_ffmpeg_is_opened_in_one_place_and_only_reads_files() -> None:
    """av.open knows dozens of protocols; of media it is called in media/source.py, with `file` as the only one.

    (live/reader.py opens the cameras and streams that the user of this machine names; a server does not import it.)
    """
    opens = [
        f"{path.relative_to(PACKAGE).as_posix()}"
        for path in sorted(PACKAGE.rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "av.open"
        and not any(isinstance(a, ast.Constant) and a.value == "w" for a in node.args)
    ]  # fmt: skip
    assert set(opens) <= {"media/source.py", "live/reader.py"}
    served = [path.read_text(encoding="utf-8") for path in (PACKAGE / "serve").rglob("*.py")]
    assert not any("live" in line for text in served for line in text.splitlines() if "import" in line)
    assert '"protocol_whitelist": "file"' in (PACKAGE / "media" / "source.py").read_text(encoding="utf-8")
