"""Training sets at scale: time and memory of `data build`, of a doctor's sample, and of the first batch; with --full,
also of the doctor's check of all records.

    python benchmarks/training_sets.py 10000 1000000 10000000 --folder F --out report.json

Annotations are those of WebVid in form, and media are .tar shards of 10,000 samples, whose clips are empty: what is
measured is how records are found, written and read, not how clips are decoded. Each step runs in a process of its own,
whose peak memory and CPU seconds are reported; `data doctor` examines 100 records, which all fail to open.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tarfile
import time
from pathlib import Path
from typing import Any

PER_SHARD = 10_000
BATCH = 1024
BLOCK = 512


def annotations(folder: Path, count: int) -> Path:
    """results_10M_train.csv with so many rows."""
    path = folder / "results_10M_train.csv"
    with path.open("w") as file:
        file.write("videoid,contentUrl,duration,page_dir,name\n")
        for k in range(count):
            file.write(
                f"{k:09},https://example.com/{k:09}.mp4,PT00H00M11S,{k // 1000:06},A clip about thing {k} in a park\n"
            )
    return path


def shards(folder: Path, count: int) -> None:
    """.tar shards with an empty member for each clip; headers are patched copies of one."""
    template = bytearray(tarfile.TarInfo("000000000.mp4").tobuf(tarfile.USTAR_FORMAT))
    fixed = sum(template) - sum(template[:9]) - sum(template[148:156]) + 8 * 32
    for first in range(0, count, PER_SHARD):
        with (folder / f"{first // PER_SHARD:05}.tar").open("wb") as file:
            for k in range(first, min(first + PER_SHARD, count)):
                name = b"%09d" % k
                template[:9] = name
                template[148:156] = b"%06o\0 " % (fixed + sum(name))
                file.write(template)
            file.write(bytes(2 * BLOCK))


def build(folder: Path) -> dict[str, Any]:
    """Build all records."""
    from videollama2.data.sets.build import build_set
    from videollama2.data.sets.registry import training_set

    made = build_set(training_set("webvid-10m"), folder, [folder], folder / "sets", share=1.0)
    return {"kept": made["kept"], "bytes": made["file"]["bytes"]}


def first_batch(folder: Path) -> dict[str, Any]:
    """Open the set as training does, and read the records of the first two batches, of two epochs."""
    from videollama2.train.build import Sources
    from videollama2.train.settings import resolve
    from videollama2.train.training_data import read_data

    phase, settings = resolve("video_align", {"batch": BATCH})
    began = time.perf_counter()
    data = read_data(Sources(model="x", data=(str(folder / "sets/webvid-10m/records.jsonl"),)), phase, settings)
    opened = time.perf_counter() - began
    for step in (0, data.order.steps_per_epoch):
        assert len({data.records[k].id for k in data.order.step(step)}) == min(BATCH, len(data.records))
    return {"opened_s": opened, "records": len(data.records), "steps": data.steps}


def doctor(folder: Path) -> dict[str, Any]:
    """Examine a sample of 100 records."""
    from videollama2 import cli

    file = folder / "sets/webvid-10m/records.jsonl"
    code = cli.main(["data", "doctor", str(file), "--sample", "100", "--output", str(folder / "doctor"), "--json"])
    return {"exit_code": code}


def full(folder: Path) -> dict[str, Any]:
    """Examine all records."""
    from videollama2 import cli

    file = folder / "sets/webvid-10m/records.jsonl"
    return {"exit_code": cli.main(["data", "doctor", str(file), "--output", str(folder / "full")])}


STEPS = {"build": build, "first batch": first_batch, "doctor": doctor, "full check": full}


def run_step(name: str, folder: Path) -> dict[str, Any]:
    """A step in a process of its own: its result, seconds and peak memory."""
    began = time.perf_counter()
    done = subprocess.run(
        [sys.executable, __file__, "--step", name, "--folder", str(folder)],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return {**json.loads(done.stdout.splitlines()[-1]), "seconds": time.perf_counter() - began}


def main() -> None:
    """Measure, print a table, write the report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("counts", nargs="*", type=int)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--step", choices=STEPS)
    parser.add_argument("--full", action="store_true", help="check all records, too: milliseconds each")
    args = parser.parse_args()
    if args.step:
        result = STEPS[args.step](args.folder)
        used = resource.getrusage(resource.RUSAGE_SELF)
        cpu = round(used.ru_utime + used.ru_stime, 1)
        print(json.dumps({**result, "peak_mib": round(used.ru_maxrss / 1024), "cpu_seconds": cpu}))
        return
    rows = []
    for count in args.counts:
        folder = args.folder / str(count)
        folder.mkdir(parents=True)
        annotations(folder, count)
        shards(folder, count)
        for name in list(STEPS)[: None if args.full else -1]:
            rows.append({"records": count, "step": name, **run_step(name, folder)})
            row = rows[-1]
            seconds = f"{row['seconds']:>9.1f} s {row['cpu_seconds']:>9.1f} CPU s"
            print(f"{count:>12,} {name:<12} {seconds} {row['peak_mib']:>7,} MiB", flush=True)
    if args.out:
        args.out.write_text(json.dumps({"cores": os.cpu_count(), "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
