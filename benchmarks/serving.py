"""Load-test a server over HTTP: throughput and latency in a closed loop, an open loop, and a soak test.

    python benchmarks/serving.py                                  nano on this machine, a few minutes
    python benchmarks/serving.py --url http://HOST:PORT           a server that is already running
    python benchmarks/serving.py --clients 1,4,16,64 --seconds 120 --soak 3600 --out serving.json

Closed loop: N clients, each sends its next request when the last one is answered. Open loop: requests arrive at a fixed
rate, whether or not the server keeps up; rates are multiples of the capacity that the closed loop reached. A share of
the requests (--fresh) has clips that the server has never seen, so it has to decode and encode them.

How to read it: throughput should hold as clients are added, and excess requests should be rejected quickly (status 429
or 503), while /health stays fast. Answers are streamed; the first token counts when it arrives at the client. `reused`
is the share of answers that used cached encodings. Memory is the server's, in MiB.
"""

import argparse
import asyncio
import base64
import contextlib
import json
import os
import random
import secrets
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import httpx
import numpy as np

QUESTIONS = ("What do you see and hear?", "Describe the clip.", "What makes the sound?", "What happens first?")


@dataclass
class Reply:
    """The result of one request: seconds, tokens and how it ended ("answer", "429", "503", "504", "error")."""

    end: str
    seconds: float
    first: float | None = None
    tokens: int = 0
    prompt_tokens: int = 0
    reused: bool = False


@dataclass
class Run:
    """The results of one load."""

    name: str
    seconds: float
    replies: list[Reply] = field(default_factory=list)
    health: list[float] = field(default_factory=list)  # latencies of /health during the load
    memory_mib: list[float] = field(default_factory=list)

    def row(self) -> dict[str, Any]:
        """Its numbers, as in the table."""
        good = [t for t in self.replies if t.end == "answer"]
        refused = [t for t in self.replies if t.end in ("429", "503")]
        firsts = [t.first for t in good if t.first is not None]
        return {
            "load": self.name,
            "answers": len(good),
            "refused": len(refused),
            "other": len(self.replies) - len(good) - len(refused),
            "answers_per_s": len(good) / self.seconds,
            "tokens_per_s": sum(t.tokens for t in good) / self.seconds,
            "first_token_s": quantiles(firsts),
            "answer_s": quantiles([t.seconds for t in good]),
            "refusal_s": quantiles([t.seconds for t in refused]),
            "health_s": quantiles(self.health),
            "reused": sum(t.reused for t in good) / max(len(good), 1),
            "memory_mib": [round(m) for m in (self.memory_mib[:1] + self.memory_mib[-1:])],
            "memory_mib_most": round(max(self.memory_mib, default=0)),
        }


def quantiles(values: list[float]) -> list[float] | None:
    """p50, p95, p99."""
    if not values:
        return None
    ranked = sorted(values)
    return [round(ranked[min(len(ranked) - 1, int(q * len(ranked)))], 4) for q in (0.5, 0.95, 0.99)]


class Load:
    """Sends requests to one server."""

    def __init__(self, client: httpx.AsyncClient, clips: list[bytes], args: argparse.Namespace) -> None:
        self.client, self.clips, self.args = client, clips, args
        self.files: list[str] = []
        self.rng = random.Random(7)

    async def upload(self) -> None:
        """Upload the clips that most requests are about."""
        for i, clip in enumerate(self.clips):
            form = {"file": (f"clip{i}.mp4", clip)}
            answer = await self.client.post("/v1/files", files=form, data={"purpose": "user_data"})
            self.files.append(answer.raise_for_status().json()["id"])

    def body(self) -> dict[str, Any]:
        """The body of one request."""
        rng = self.rng
        if rng.random() < self.args.fresh:
            clip = (
                rng.choice(self.clips) + b"\0\0\0\x18free" + secrets.token_bytes(16)
            )  # an mp4 box that players skip makes the file new
            url = f"data:video/mp4;base64,{base64.b64encode(clip).decode()}"
            part: dict[str, Any] = {"type": "video_url", "video_url": {"url": url}}
        else:
            part = {"type": "file", "file": {"file_id": rng.choice(self.files)}}
        text = {"type": "text", "text": rng.choice(QUESTIONS)}
        return {
            "model": "default", "stream": True, "stream_options": {"include_usage": True}, "temperature": 0.7,
            "max_tokens": rng.choice((8, 16, 32, 64)), "messages": [{"role": "user", "content": [part, text]}],
        }  # fmt: skip

    async def ask(self) -> Reply:
        """Send one request and read its stream to the end."""
        started = time.perf_counter()
        first, tokens, prompt, reused, end = None, 0, 0, False, "error"
        try:
            async with self.client.stream("POST", "/v1/chat/completions", json=self.body()) as answer:
                if answer.status_code != 200:
                    await answer.aread()
                    return Reply(str(answer.status_code), time.perf_counter() - started)
                async for line in answer.aiter_lines():
                    if not line.startswith("data: {"):
                        end = "answer" if line == "data: [DONE]" and end == "whole" else end
                        continue
                    chunk = json.loads(line[6:])
                    if "error" in chunk:
                        return Reply(str(chunk["error"].get("status", "error")), time.perf_counter() - started)
                    delta = chunk["choices"][0]["delta"] if chunk["choices"] else {}
                    first = time.perf_counter() - started if first is None and delta.get("content") else first
                    reused = reused or bool(chunk.get("receipt", {}).get("reused"))
                    if chunk.get("usage"):
                        tokens, prompt = chunk["usage"]["completion_tokens"], chunk["usage"]["prompt_tokens"]
                        end = "whole"
        except httpx.HTTPError:
            end = "error"
        return Reply(end, time.perf_counter() - started, first, tokens, prompt, reused)

    @contextlib.asynccontextmanager
    async def watched(self, run: Run) -> AsyncIterator[None]:
        """Poll the server's health and memory during a load."""

        async def watch() -> None:
            while True:
                started = time.perf_counter()
                (await self.client.get("/health")).raise_for_status()
                run.health.append(time.perf_counter() - started)
                text = (await self.client.get("/metrics")).text
                run.memory_mib += [
                    float(line.split()[1]) / 2**20
                    for line in text.splitlines()
                    if line.startswith("process_resident_memory_bytes")
                ]
                await asyncio.sleep(self.args.watch)

        task = asyncio.create_task(watch())
        try:
            yield
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    async def closed(self, clients: int, seconds: float) -> Run:
        """Closed loop: `clients` clients, each sending one request after the other."""
        run = Run(f"{clients} clients", seconds)
        started = time.perf_counter()

        async def one() -> None:
            while time.perf_counter() - started < seconds:
                reply = await self.ask()
                run.replies.append(reply)
                if reply.end != "answer":
                    await asyncio.sleep(0.5)

        async with self.watched(run):
            await asyncio.gather(*(one() for _ in range(clients)))
        run.seconds = time.perf_counter() - started
        return run

    async def open(self, rate: float, seconds: float, name: str) -> Run:
        """Open loop: requests per second at `rate`, as a Poisson process."""
        run, tasks = Run(name, seconds), []
        started = time.perf_counter()
        due = started

        async def one() -> None:
            run.replies.append(await self.ask())

        async with self.watched(run):
            while (due := due + self.rng.expovariate(rate)) - started < seconds:
                await asyncio.sleep(max(0.0, due - time.perf_counter()))
                tasks.append(asyncio.create_task(one()))
            await asyncio.gather(*tasks)
        run.seconds = time.perf_counter() - started
        return run


def make_clip(path: Path, seconds: float, hue: int) -> bytes:
    """An mp4 file with a moving square and a tone."""
    rate, fps = 16000, 12
    with av.open(path, "w") as out:
        video, audio = out.add_stream("mpeg4", rate=fps), out.add_stream("aac", rate=rate)
        video.width, video.height, video.pix_fmt, audio.layout = 320, 240, "yuv420p", "mono"
        for i in range(int(seconds * fps)):
            picture = np.full((240, 320, 3), (hue, 255 - hue, 80), np.uint8)
            picture[80:160, (7 * i) % 240 : (7 * i) % 240 + 80] = 255
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = i, Fraction(1, fps)
            out.mux(video.encode(frame))
        out.mux(video.encode())
        sound = (0.3 * np.sin(2 * np.pi * (200 + 3 * hue) * np.arange(int(seconds * rate)) / rate)).astype(np.float32)
        block = av.AudioFrame.from_ndarray(sound[None], format="fltp", layout="mono")
        block.sample_rate, block.pts, block.time_base = rate, 0, Fraction(1, rate)
        out.mux(audio.encode(block))
        out.mux(audio.encode())
    return path.read_bytes()


@contextlib.contextmanager
def server(args: argparse.Namespace) -> Iterator[str]:
    """The server at --url, or one started in its own process; yields its URL."""
    if args.url:
        yield args.url
        return
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [
        sys.executable, "-m", "videollama2", "serve", "--model", args.model, "--port", str(port),
        "--device", args.device,
        "--queue", str(args.queue), "--max-batch-size", str(args.max_batch_size),
        *(["--fp16-weights"] if args.fp16_weights else []),
    ]  # fmt: skip
    with tempfile.TemporaryFile() as log, subprocess.Popen(command, stderr=log, env={**os.environ}) as process:
        url, until = f"http://127.0.0.1:{port}", time.monotonic() + 300
        try:
            while True:
                if process.poll() is not None or time.monotonic() > until:
                    log.seek(0)
                    raise RuntimeError(f"the server did not start: {log.read()[-2000:].decode(errors='replace')}")
                with contextlib.suppress(httpx.HTTPError):
                    if httpx.get(f"{url}/ready").status_code == 200:
                        break
                time.sleep(0.2)
            yield url
        finally:
            process.terminate()


async def measure(url: str, args: argparse.Namespace) -> list[Run]:
    """Run all loads, one after the other."""
    with tempfile.TemporaryDirectory() as folder:
        clips = [make_clip(Path(folder) / f"{i}.mp4", seconds, 40 * i) for i, seconds in enumerate((2, 4, 6, 10))]
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=64)
    headers = {"Authorization": f"Bearer {args.key}"} if args.key else {}
    runs: list[Run] = []
    async with httpx.AsyncClient(base_url=url, timeout=600, limits=limits, headers=headers) as client:
        load = Load(client, clips, args)
        await load.upload()
        await asyncio.gather(*(load.ask() for _ in range(4)))  # warm-up

        def add(run: Run) -> None:
            runs.append(run)
            sys.stdout.write(line(run.row()) + "\n")
            sys.stdout.flush()

        sys.stdout.write(HEAD + "\n")
        for clients in args.clients:
            add(await load.closed(clients, args.seconds))
        capacity = max(run.row()["answers_per_s"] for run in runs)
        for times in args.rates:
            add(await load.open(times * capacity, args.seconds, f"open, {times:g} × capacity"))
        if args.soak:
            add(await load.open(args.soak_load * capacity, args.soak, f"soak, {args.soak_load:g} × capacity"))
    return runs


HEAD = (
    "| load | answers | rejected | other | answers/s | tokens/s | first token s p50/95/99 | answer s p50/95/99 | "
    "rejection s p50/95/99 | health s p50/95/99 | reused | MiB first, last, most |\n|" + "---|" * 12
)


def line(row: dict[str, Any]) -> str:
    """A row of the table."""
    three = ["/".join(f"{v:.3g}" for v in row[k] or ()) for k in ("first_token_s", "answer_s", "refusal_s", "health_s")]
    memory = ", ".join(map(str, [*row["memory_mib"], row["memory_mib_most"]]))
    cells = [row["load"], row["answers"], row["refused"], row["other"], f"{row['answers_per_s']:.2f}",
             f"{row['tokens_per_s']:.1f}", *three, f"{row['reused']:.0%}", memory]  # fmt: skip
    return "| " + " | ".join(map(str, cells)) + " |"


def main() -> None:
    """Run the loads, print the table, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--url", help="a running server; default: start one")
    add("--key", help="API key of the server")
    add("--model", default="nano")
    add("--device", default="auto")
    add("--fp16-weights", action="store_true")
    add("--queue", type=int, default=64)
    add("--max-batch-size", type=int, default=16)
    add(
        "--clients",
        type=lambda t: [int(n) for n in t.split(",")],
        default=[1, 4, 16, 64],
        help="closed loops: numbers of clients",
    )
    add(
        "--rates",
        type=lambda t: [float(n) for n in t.split(",") if n],
        default=[0.5, 1.0, 2.0],
        help="open loops: multiples of the capacity",
    )
    add("--seconds", type=float, default=30.0, help="duration of each load; default: %(default)s")
    add("--fresh", type=float, default=0.25, help="share of requests with a new clip; default: %(default)s")
    add("--soak", type=float, default=0.0, help="seconds of moderate load at the end; default: none")
    add("--soak-load", type=float, default=0.6, help="load of the soak, as a share of capacity; default: %(default)s")
    add("--watch", type=float, default=1.0, help="seconds between polls of health and memory; default: %(default)s")
    add("--out", type=Path, help="also write the results to this file")
    args = parser.parse_args()
    with server(args) as url:
        runs = asyncio.run(measure(url, args))
    if args.out:
        facts = {"load_average": os.getloadavg()[0], "cores": os.cpu_count()}
        report = {"settings": {k: v for k, v in vars(args).items() if k not in ("out", "key", "url")}, "machine": facts}
        rows = [{**run.row(), "asked": len(run.replies)} for run in runs]
        args.out.write_text(json.dumps({**report, "rows": rows}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
