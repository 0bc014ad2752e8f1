"""A job over 200 clips on a local cluster of two nodes, with everything killed that can be.

    python recipes/ray/two_nodes.py --out two-nodes [--model nano] [--rows 200]

Makes short clips (every tenth row is bad: no video, a missing file, an unknown address, a row without media), starts
two Ray nodes on this machine, and runs `videollama2 ask --ray`. After a fifth of the rows an actor is killed (SIGKILL),
after two fifths the driver, and the same command runs again; after three fifths a node is killed. Then the lines are
checked: every id once, in order, answers equal to those of a run without Ray, errors where they belong.
"""

import argparse
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import av
import numpy as np

QUESTION = "What do you see and hear?"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, default=Path("two-nodes"))
    parser.add_argument("--model", default="nano")
    parser.add_argument("--rows", type=int, default=200)
    parser.add_argument("--max-new-tokens", type=int, default=12)
    parser.add_argument("--keep-node", action="store_true", help="don't kill a node")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    manifest, good = make(args.out.absolute(), args.rows)
    command = [sys.executable, "-m", "videollama2", "ask", str(manifest), QUESTION, "--model", args.model]
    command += ["--device", "cpu", "--dtype", "float32", "--max-new-tokens", str(args.max_new_tokens)]
    began = time.monotonic()
    killed = on_two_nodes(command, args.out, args.rows, kill_node=not args.keep_node)
    seconds = time.monotonic() - began
    plain = args.out / "plain"
    subprocess.run([*command, "--out", str(plain)], check=False, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    print(json.dumps({**check(args.out / "ray", plain, args.rows, good), **killed, "seconds": round(seconds, 1)}))


def make(out: Path, rows: int) -> tuple[Path, set[str]]:
    """The manifest, and the ids of its good rows."""
    (out / "clips").mkdir(exist_ok=True)
    (out / "clips" / "text.mp4").write_text("this is no video\n")
    lines, good = [], set()
    bad = ["clips/text.mp4", "clips/gone.mp4", "nosuch://host/clip.mp4", None]
    for i in range(rows):
        if i % 10 == 9:
            path = bad[i // 10 % len(bad)]
            lines.append({"id": f"row-{i}", **({} if path is None else {"video": path})})
            continue
        clip = out / "clips" / f"{i:04}.mp4"
        if not clip.is_file():
            write_clip(clip, i)
        lines.append({"id": f"row-{i}", "video": f"clips/{clip.name}"})
        good.add(f"row-{i}")
    manifest = out / "rows.jsonl"
    manifest.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return manifest, good


def write_clip(path: Path, seed: int) -> None:
    """Two seconds: a square that moves, and a tone."""
    rng = np.random.default_rng(seed)
    colour, hz = rng.integers(0, 256, 3), 200.0 + 10 * seed
    with av.open(str(path), "w") as container:
        video = container.add_stream("mpeg4", rate=8)
        video.width, video.height, video.pix_fmt = 96, 64, "yuv420p"
        audio = container.add_stream("aac", rate=16000, layout="mono")
        for k in range(16):
            pixels = np.full((64, 96, 3), 230, np.uint8)
            pixels[20:44, 4 * k : 4 * k + 24] = colour
            container.mux(video.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(video.encode())
        wave = (0.3 * np.sin(2 * np.pi * hz * np.arange(32000) / 16000)).astype(np.float32)[None]
        for at in range(0, 32000, 1024):
            frame = av.AudioFrame.from_ndarray(wave[:, at : at + 1024], format="fltp", layout="mono")
            frame.sample_rate, frame.pts = 16000, at
            container.mux(audio.encode(frame))
        container.mux(audio.encode())


def on_two_nodes(command: list[str], out: Path, rows: int, *, kill_node: bool) -> dict[str, object]:
    """Run the command on a cluster of two nodes; an actor, the driver, and a node are killed on the way."""
    from ray.cluster_utils import Cluster

    node = {"num_cpus": 1, "object_store_memory": 80_000_000}
    cluster = Cluster(initialize_head=True, head_node_args={**node, "include_dashboard": False})
    second = cluster.add_node(**node)
    journal = out / "ray" / "answers.jsonl"
    command = [*command, "--ray", cluster.address, "--out", str(out / "ray"), "--json"]
    killed: dict[str, object] = {}
    try:
        driver = subprocess.Popen(command)
        wait(journal, rows // 5, driver)
        killed["actor"] = kill_an_actor()
        wait(journal, 2 * rows // 5, driver)
        driver.send_signal(signal.SIGKILL)
        driver.wait()
        killed["driver_after"] = len(whole_lines(journal))
        driver = subprocess.Popen(command)
        if kill_node:
            wait(journal, 3 * rows // 5, driver)
            cluster.remove_node(second, allow_graceful=False)
            killed["node_after"] = len(whole_lines(journal))
        killed["exit_code"] = driver.wait(1200)
    finally:
        cluster.shutdown()
    return killed


def wait(journal: Path, lines: int, driver: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + 900
    while len(whole_lines(journal)) < lines:
        if driver.poll() is not None:
            raise SystemExit(f"the driver ended with {driver.returncode} before {lines} lines")
        if time.monotonic() > deadline:
            raise SystemExit(f"{len(whole_lines(journal))} lines after 15 minutes; expected {lines}")
        time.sleep(0.2)


def whole_lines(path: Path) -> list[bytes]:
    return path.read_bytes().split(b"\n")[:-1] if path.is_file() else []


def kill_an_actor() -> int:
    """SIGKILL to one of the processes that hold an engine; returns its number."""
    for process in Path("/proc").iterdir():
        if process.name.isdigit() and int(process.name) != os.getpid():
            try:
                title = (process / "cmdline").read_bytes()
            except OSError:
                continue
            if re.match(rb"ray::\w*MapWorker.*EngineActor", title.replace(b"\0", b" ")):
                os.kill(int(process.name), signal.SIGKILL)
                return int(process.name)
    raise SystemExit("no actor with an engine was found")


def check(ray: Path, plain: Path, rows: int, good: set[str]) -> dict[str, object]:
    """Counts; raises AssertionError if a line is missing, repeated or wrong."""
    lines = [json.loads(line) for line in whole_lines(ray / "answers.jsonl")]
    expected = [json.loads(line) for line in whole_lines(plain / "answers.jsonl")]
    for line in [*lines, *expected]:
        line.pop("took")
    repeated = [id_ for id_, count in Counter(line["id"] for line in lines).items() if count > 1]
    assert not repeated and len(lines) == rows, (len(lines), repeated)
    assert [line["id"] for line in lines] == [line["id"] for line in expected]
    assert {line["id"] for line in lines if line["status"] == "done"} == good
    different = [line["id"] for line, other in zip(lines, expected, strict=True) if line != other]
    return {"rows": len(lines), "done": len(good), "failed": rows - len(good), "different_from_plain": different}


if __name__ == "__main__":
    main()
