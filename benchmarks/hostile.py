"""Attack a server with mutated media files and malformed requests, mixed with valid requests that must succeed.

    python benchmarks/hostile.py                                  2,000 files, 500 requests, nano on this machine
    python benchmarks/hostile.py --model FOLDER --media 200 --requests 50 --seed 7 --out hostile.json

The server runs in its own process, without a media cache, so every valid clip is decoded again. It passes if every
valid answer is the same as before the attack, no response is a 5xx except "busy", no error reveals an address, a path
or a traceback, memory stays flat, and no worker process is left over. The seed determines everything that is sent.
The exit code is 0 if the server passed, 1 otherwise.
"""

import argparse
import base64
import collections
import contextlib
import io
import json
import random
import re
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

import av
import httpx
import numpy as np
from PIL import Image

LEAK = re.compile(
    r"0x[0-9a-f]{4}|Traceback|File \\?\"|site-packages|/(?:home|usr|root|proc|tmp|var|dev)/|\.py\b|"
    r"<\w[\w.]* (?:object )?at ",
    re.I,
)
EXTREMES = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 0xFFFFFFFE)
ODD: tuple[Any, ...] = (
    None, True, -1, 0, 1e308, 2**31, 2**63, 10**30, "", "\0", "x" * 5000, [], {}, [[]], {"url": "file:///etc/passwd"},
    "NaN",     "../../etc/passwd", "<|im_start|>", "{{7*7}}", "\u202e", ["data:"], {"$ref": "#"}, 
    "http://127.0.0.1:22/", 0.5, -0.0,
)  # fmt: skip
PATHS = (
    "/v1/files/..%2f..%2fetc%2fpasswd", "/v1/files/%00", "/v1/models/../x", "/v1/nothing", "/%ff", "/static/../../x",
    "/v1/files?limit=1e9", "/v1/files?after=x", "/v1/models/a%20b",
)  # fmt: skip


def seeds() -> dict[str, tuple[bytes, str]]:
    """Small valid files of every container and codec that the server accepts, with their MIME types."""
    found: dict[str, tuple[bytes, str]] = {}
    films = {"mp4": ("libx264", "aac"), "mov": ("libx264", "pcm_s16le"), "webm": ("libvpx-vp9", "libopus"),
             "mkv": ("libx265", "flac"), "avi": ("mpeg4", "libmp3lame")}  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        for kind, (picture, sound) in films.items():
            found[kind] = (_write(Path(folder) / f"a.{kind}", picture, sound), f"video/{kind}")
        for kind, sound in {"wav": "pcm_s16le", "flac": "flac", "mp3": "libmp3lame", "ogg": "libopus"}.items():
            found[kind] = (_write(Path(folder) / f"a.{kind}", None, sound), f"audio/{kind}")
    pictures = [Image.fromarray(_picture(i)) for i in range(4)]
    for kind in ("PNG", "JPEG", "GIF", "WEBP"):
        held = io.BytesIO()
        more = {"save_all": True, "append_images": pictures[1:], "duration": 100} if kind in ("GIF", "WEBP") else {}
        pictures[0].save(held, kind, **more)
        found[kind.lower()] = (held.getvalue(), f"image/{kind.lower()}")
    return found


def _picture(i: int) -> np.ndarray:
    y, x = np.mgrid[:48, :64]
    base = (127 + 100 * np.sin((x + 3 * i) / 5) * np.cos((y - 2 * i) / 7)).astype(np.uint8)
    return np.stack([base, np.roll(base, i, 0), 255 - base], axis=2)


def _write(path: Path, picture: str | None, sound: str) -> bytes:
    with av.open(str(path), "w") as out:
        video = None
        if picture:
            quiet = {"x265-params": "log-level=none"} if picture == "libx265" else {}
            video = out.add_stream(picture, rate=10, options=quiet)
            video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        audio = out.add_stream(sound, rate=48000, layout="mono")
        for i in range(10 if video else 0):
            frame = av.VideoFrame.from_ndarray(_picture(i), format="rgb24").reformat(format="yuv420p")
            frame.pts, frame.time_base = i, Fraction(1, 10)
            out.mux(video.encode(frame))
        out.mux(video.encode() if video else [])
        wave = (0.4 * np.sin(np.arange(48000) * 0.06)).astype(np.float32)[None]
        block = av.AudioFrame.from_ndarray(wave, format="fltp", layout="mono")
        block.sample_rate, block.pts = 48000, 0
        resampler = av.AudioResampler(audio.codec_context.format, "mono", 48000, audio.codec_context.frame_size or 1024)
        for part in [*resampler.resample(block), *resampler.resample(None)]:
            out.mux(audio.encode(part))
        out.mux(audio.encode())
    return path.read_bytes()


def mutated(data: bytes, rng: random.Random, other: bytes) -> bytes:
    """The file, corrupted in one to three ways."""
    found = bytearray(data)
    for _ in range(rng.randint(1, 3)):
        size = max(len(found), 1)
        way, at = rng.randrange(8), rng.randrange(size)
        if way == 0:
            del found[at:]
        elif way == 1:
            for _ in range(rng.choice((1, 4, 30, 300))):
                found[rng.randrange(len(found)) if found else 0 : 0] = b""
                if found:
                    found[rng.randrange(len(found))] = rng.randrange(256)
        elif way == 2:  # overwrite a number in the header
            at = rng.randrange(min(size, 1024))
            width = rng.choice((1, 2, 4))
            value = (rng.choice(EXTREMES) & (1 << 8 * width) - 1).to_bytes(width, rng.choice(("big", "little")))
            found[at : at + width] = value
        elif way == 3:
            found[at : at + rng.choice((4, 64, 1024))] = bytes(rng.choice((4, 64, 1024)))
        elif way == 4:
            found[at:at] = found[rng.randrange(size) :][: rng.choice((8, 256, 4096))]
        elif way == 5:
            del found[at : at + rng.choice((1, 16, 512))]
        elif way == 6:
            found[at:] = other[rng.randrange(len(other)) :]
        else:
            found += rng.randbytes(rng.choice((1, 100, 5000)))
    return bytes(found)


def data_url(data: bytes, kind: str) -> str:
    """A media file as a data URL."""
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def asking(url: str) -> dict[str, Any]:
    """A request about one media file."""
    content = [{"type": "video_url", "video_url": {"url": url}}, {"type": "text", "text": "What do you see and hear?"}]
    return {"model": "default", "max_tokens": 2, "messages": [{"role": "user", "content": content}]}


def twisted(body: Any, rng: random.Random) -> Any:
    """The body with values replaced or added at random places."""
    copy = json.loads(json.dumps(body))
    for _ in range(rng.randint(1, 3)):
        node: Any = copy
        while isinstance(node, dict | list) and node and rng.random() < 0.75:
            key = rng.choice(list(node)) if isinstance(node, dict) else rng.randrange(len(node))
            if not isinstance(node[key], dict | list) or rng.random() < 0.3:
                break
            node = node[key]
        if isinstance(node, dict):
            names = [
                *node,
                rng.choice(("fps", "chat_template", "prompt_embeds", "n", "stop", "timeout", "start", "type")),
            ]
            node[rng.choice(names)] = _odd(rng)
        elif isinstance(node, list):
            node.insert(rng.randrange(len(node) + 1), _odd(rng))
    return copy


def _odd(rng: random.Random) -> Any:
    """A copy of one of ODD, so that later changes to it do not reach the next one."""
    return json.loads(json.dumps(rng.choice(ODD)))


@dataclass
class Report:
    """The responses of the server, and what was found in them."""

    good: int = 0
    wrong: list[str] = field(default_factory=list)
    statuses: dict[str, collections.Counter[int]] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)
    leaks: list[str] = field(default_factory=list)
    slowest: float = 0.0
    memory_mib: list[float] = field(default_factory=list)
    children: int = 0
    left: int = 0

    def flat(self) -> bool:
        """Whether memory grew by less than 5 % or 64 MiB from the second quarter of the run to the last."""
        quarter = len(self.memory_mib) // 4
        if quarter < 2:
            return True
        early, late = np.median(self.memory_mib[quarter : 2 * quarter]), np.median(self.memory_mib[-quarter:])
        return bool(late < early + max(0.05 * early, 64))

    def passed(self) -> bool:
        """Whether the server withstood the attack."""
        return bool(self.good) and not (self.wrong or self.failures or self.leaks or self.left) and self.flat()

    def row(self) -> dict[str, Any]:
        """As plain data."""
        statuses = {name: {str(k): n for k, n in sorted(c.items())} for name, c in self.statuses.items()}
        memory = [round(float(v)) for v in self.memory_mib[:: max(len(self.memory_mib) // 20, 1)]]
        return {"passed": self.passed(), "good_and_right": self.good, "wrong": self.wrong[:10], "statuses": statuses,
                "failures": self.failures[:10], "leaks": self.leaks[:10], "slowest_seconds": round(self.slowest, 1),
                "memory_mib": memory, "memory_flat": self.flat(), "children": self.children,
                "left": self.left}  # fmt: skip


class Attack:
    """Sends everything to one server. Call `run` once."""

    def __init__(self, url: str, seed: int = 0, clients: int = 4) -> None:
        self.url, self.rng, self.clients = url, random.Random(seed), clients
        self.report, self._lock = Report(), threading.Lock()
        self._client = httpx.Client(base_url=url, timeout=300, limits=httpx.Limits(max_connections=clients))
        self._good = {
            name: asking(data_url(*seed)) for name, seed in seeds().items() if name in ("mp4", "webm", "ogg", "png")
        }
        self._right: dict[str, str] = {}

    def run(self, media: int, requests: int, every: int = 20, tick: Callable[[], None] = lambda: None) -> Report:
        """Send the hostile files and requests, with a valid request after every `every`; calls `tick` after each."""
        for name in self._good:
            self._right[name] = self._answer(name)
        with contextlib.closing(self._client), ThreadPoolExecutor(self.clients) as pool:
            for _ in pool.map(lambda task: (task(), tick()), self._tasks(media, requests, every)):
                continue
            for name in self._good:
                self._check(name)
        return self.report

    def _tasks(self, media: int, requests: int, every: int) -> Iterator[Callable[[], None]]:
        found = seeds()
        kinds = ["media"] * media + ["request"] * requests
        self.rng.shuffle(kinds)
        for i, kind in enumerate(kinds):
            rng = random.Random(self.rng.random())
            data, mime = rng.choice(list(found.values()))
            if kind == "media":
                corrupt = mutated(data, rng, rng.choice(list(found.values()))[0]) or b"\0"
                yield partial(self._medium, corrupt, mime, rng)
            else:
                yield partial(self._request, asking(data_url(data, mime)), rng)
            if i % every == every - 1:
                yield partial(self._check, rng.choice(list(self._good)))

    def _answer(self, name: str) -> str:
        response = self._client.post("/v1/chat/completions", json=self._good[name])
        body = response.json()
        kept = {key: body.get(key) for key in ("choices", "usage", "receipt")}
        (kept["receipt"] or {}).pop("reused", None)
        return f"{response.status_code} {json.dumps(kept, sort_keys=True)}"

    def _check(self, name: str) -> None:
        found = self._answer(name)
        with self._lock:
            if found == self._right[name] and found.startswith("200"):
                self.report.good += 1
            else:
                self.report.wrong.append(f"{name}: {found[:300]}")

    def _medium(self, data: bytes, kind: str, rng: random.Random) -> None:
        if rng.random() < 0.3:  # as an upload
            response = self._send("upload", "POST", "/v1/files", files={"file": ("x.mp4", data)})
            if response is None or response.status_code != 200:
                return
            id = response.json()["id"]
            body = asking("")
            body["messages"][0]["content"][0] = {"type": "file", "file": {"file_id": id}}
            self._send("media", "POST", "/v1/chat/completions", json=body)
            self._send("delete", "DELETE", f"/v1/files/{id}")
            return
        self._send("media", "POST", "/v1/chat/completions", json=asking(data_url(data, kind)))

    def _request(self, body: dict[str, Any], rng: random.Random) -> None:
        way = rng.randrange(6)
        json_type = {"Content-Type": "application/json"}
        if way <= 2:
            content = json.dumps(twisted(body, rng)).encode()
            self._send("request", "POST", "/v1/chat/completions", content=content, headers=json_type)
        elif way == 3:
            content = mutated(json.dumps(body).encode(), rng, b'{"messages":[{}]}' * 9)
            self._send("request", "POST", "/v1/chat/completions", content=content, headers=json_type)
        elif way == 4:
            path = rng.choice(PATHS)
            self._send("request", rng.choice(("GET", "PUT", "POST", "DELETE", "PATCH")), path)
        else:
            self._raw(body, rng)

    def _raw(self, body: dict[str, Any], rng: random.Random) -> None:
        """Send bytes over a plain socket: truncated or corrupted."""
        content = json.dumps(body).encode()
        head = b"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n"
        head += b"Content-Type: application/json\r\n"
        whole = head + b"Content-Length: %d\r\n\r\n" % len(content) + content
        sent = whole[: rng.randrange(len(whole))] if rng.random() < 0.5 else mutated(whole[:400], rng, b"\r\n" * 50)
        host, port = self.url.removeprefix("http://").split(":")
        found = b""
        with contextlib.suppress(OSError), socket.create_connection((host, int(port)), 2) as sock:
            sock.sendall(sent)
            sock.shutdown(socket.SHUT_WR)
            while piece := sock.recv(65536):
                found += piece
        status = re.match(rb"HTTP/1.1 (\d+)", found)
        self._note("raw", int(status[1]) if status else 0, found.decode("latin-1"))

    def _send(self, what: str, method: str, path: str, **more: Any) -> httpx.Response | None:
        begun = time.monotonic()
        try:
            response = self._client.request(method, path, **more)
        except httpx.HTTPError as error:
            with self._lock:
                self.report.failures.append(f"{what}: {type(error).__name__}")
            return None
        self.report.slowest = max(self.report.slowest, time.monotonic() - begun)
        self._note(what, response.status_code, response.text)
        return response

    def _note(self, what: str, status: int, text: str) -> None:
        with self._lock:
            self.report.statuses.setdefault(what, collections.Counter())[status] += 1
            if status >= 500 and status not in (503, 504):
                self.report.failures.append(f"{what}: {status} {text[:200]}")
            if status >= 400 and (leak := LEAK.search(text)):
                self.report.leaks.append(f"{what}: …{text[max(leak.start() - 60, 0) : leak.end() + 60]}…")


def family(pid: int) -> list[int]:
    """The ids of a process and all its descendants (Linux)."""
    found = [pid]
    for one in found:
        with contextlib.suppress(OSError):
            for task in Path(f"/proc/{one}/task").iterdir():
                found += [int(child) for child in (task / "children").read_text().split()]
    return found


def resident_mib(pids: list[int]) -> float:
    """Resident memory of the processes, in MiB."""
    total = 0
    for pid in pids:
        with contextlib.suppress(OSError, IndexError):
            total += int(Path(f"/proc/{pid}/status").read_text().split("VmRSS:")[1].split()[0])
    return total / 1024


@contextlib.contextmanager
def server(model: str) -> Iterator[tuple[str, int]]:
    """Start a server on a free port; yields its URL and process id."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "videollama2", "serve", "--model", model, "--port", str(port), "--cache-mb", "0",
               "--decode-seconds", "20", "--decode-memory-mb", "1024"]  # fmt: skip
    with tempfile.TemporaryFile() as log, subprocess.Popen(command, stderr=log) as process:
        url, until = f"http://127.0.0.1:{port}", time.monotonic() + 600
        try:
            while True:
                if process.poll() is not None or time.monotonic() > until:
                    log.seek(0)
                    raise RuntimeError(f"the server did not start: {log.read()[-2000:].decode(errors='replace')}")
                with contextlib.suppress(OSError):
                    socket.create_connection(("127.0.0.1", port), 1).close()
                    break
                time.sleep(0.2)
            yield url, process.pid
        finally:
            process.terminate()
            try:
                process.wait(120)
            except subprocess.TimeoutExpired:
                process.kill()


def main() -> None:
    """Run the attack, print the report as JSON, and exit with 1 if the server failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="nano")
    parser.add_argument("--media", type=int, default=2000, help="mutated files to send; default: %(default)s")
    parser.add_argument("--requests", type=int, default=500, help="malformed requests; default: %(default)s")
    parser.add_argument(
        "--every", type=int, default=20, help="hostile messages between two valid ones; default: %(default)s"
    )
    parser.add_argument("--clients", type=int, default=4, help="concurrent clients; default: %(default)s")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="also write the report to this file")
    args = parser.parse_args()
    begun = time.monotonic()
    with server(args.model) as (url, pid):
        attack = Attack(url, args.seed, args.clients)
        seen: set[int] = set()

        def tick() -> None:
            now = family(pid)
            seen.update(now[1:])
            memory = attack.report.memory_mib
            memory.append(resident_mib(now))
            if len(memory) % 100 == 0:
                so_far = attack.report
                sent = {name: sum(counts.values()) for name, counts in so_far.statuses.items()}
                bad = f"{len(so_far.wrong)} wrong, {len(so_far.failures)} failures, {len(so_far.leaks)} leaks"
                sys.stderr.write(f"{sent}: {so_far.good} valid and right, {bad}, {memory[-1]:.0f} MiB\n")

        report = attack.run(args.media, args.requests, args.every, tick)
        report.children = len(seen)
        assert httpx.get(f"{url}/health").json() == {"status": "ok"}
        if len(family(pid)) - 1 > 2:
            report.failures.append(f"{len(family(pid)) - 1} worker processes; expected 2 or fewer")
    report.left = sum(Path(f"/proc/{child}").exists() for child in seen)
    row = {**vars(args), "out": None, "seconds": round(time.monotonic() - begun), **report.row()}
    text = json.dumps(row, indent=1)
    sys.stdout.write(text + "\n")
    if args.out:
        args.out.write_text(text + "\n", encoding="utf-8")
    sys.exit(0 if report.passed() else 1)


if __name__ == "__main__":
    main()
