"""The doctor: what it finds in records and media, that nothing can stop it, and that it goes on where it was."""

import json
import math
import os
import re
import signal
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from videollama2.cli import main
from videollama2.data.doctor import decoding, on_disk, report, worker
from videollama2.data.doctor.examine import Examination, examine
from videollama2.data.doctor.report import page, summary, table, write_report
from videollama2.data.record_files import Place
from videollama2.data.records import Record, of_mapping, read_records
from videollama2.errors import StorageError, UsageError, VideoLlama2Error
from videollama2.processing import VideoLlama2Processor
from videollama2.protocols import protocol

from .. import tiny

ASK = [{"from": "human", "value": "What is it?"}, {"from": "gpt", "value": "A <b>kite</b>."}]
LONG = [ASK[0], {"from": "gpt", "value": "word " * 400}]

# A worker without the weight of the real one: its media are names. It notes what it was asked.
FAKE = """
import json, os, sys, time

def tell(body):
    told = json.dumps({"blobs": [], "body": body}).encode()
    sys.stdout.buffer.write(len(told).to_bytes(8) + told)
    sys.stdout.flush()

tell("ready")
while length := sys.stdin.buffer.read(8):
    task = json.loads(sys.stdin.buffer.read(int.from_bytes(length)))["body"]["task"]
    name = os.path.basename(task.get("source", task.get("hash")))
    with open(LOG, "a") as log:
        log.write(name + "\\n")
    if "hang" in name:
        time.sleep(600)
    if "crash" in name:
        os.abort()
    if "slow" in name:
        time.sleep(0.2)
    tell({"hash": name, "kind": "video", "seconds": 2.0, "frames": 4, "different": 4, "sound": "used",
          "sound_seconds": 2.0, "fbank": 200, "losses": []})
"""


def write(path: Path, *records: Any) -> Path:
    path.write_text("".join(json.dumps({"conversations": ASK, **r}) + "\n" for r in records), encoding="utf-8")
    return path


@pytest.fixture
def asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Media are opened by FAKE; the file lists what it was asked for."""
    log = tmp_path / "asked.txt"
    monkeypatch.setattr(decoding, "COMMAND", (sys.executable, "-c", f"LOG = {str(log)!r}\n{FAKE}"))
    return log


def named(tmp_path: Path, *names: str) -> Path:
    """Records about files of these names, each of another size."""
    for i, name in enumerate(names):
        (tmp_path / name).write_bytes(b"x" * (i + 1))
    return write(tmp_path / "named.jsonl", *({"video": name} for name in names))


# ── what it finds ──────────────────────────────────────────────────────────────────────────────────────────────

EXPECTED = [
    ({"video": "a.mp4"}, set()),
    ({"video": "a.mp4", "sound": True}, set()),
    ({"video": "a.mp4", "sound": True, "start": 0.5, "end": 1.5}, set()),
    ({"video": "a.mp4", "end": 1.5, "_": "another range of the same is no duplicate"}, set()),
    ({"audio": "a.mp4"}, set()),
    ({"audio": "tone.wav"}, set()),
    ({"image": "p.png"}, set()),
    ({"video": ["p.png", "q.png"]}, set()),
    ({}, set()),
    ({"video": "silent.mp4", "sound": True}, {"silent"}),
    ({"video": "copy.mp4", "start": 1}, {"duplicate file"}),
    ({"video": "./a.mp4", "end": 1.6}, set()),
    ({"video": "copy.mp4"}, {"duplicate"}),
    ({"video": "gone.mp4"}, {"missing"}),
    ({"video": "pipe.mp4"}, {"missing"}),
    ({"video": "noise.mp4"}, {"unreadable"}),
    ({"video": "empty.mp4"}, {"unreadable"}),
    ({"video": "mute.mp4", "sound": True}, {"no sound"}),
    ({"audio": "mute.mp4"}, {"no sound"}),
    ({"video": "tone.mp4", "sound": True}, {"no pictures", "duplicate file"}),
    ({"video": "a.mp4", "start": 60}, {"too short"}),
    ({"video": "a.mp4", "start": 1, "end": 5}, {"too short"}),
    ({"video": "one.mp4"}, {"too short"}),
    ({"audio": "click.wav"}, {"too short"}),
    ({"video": "picture.mp4"}, {"wrong medium", "duplicate file"}),
    ({"image": "moving.png"}, {"wrong medium"}),
    ({"conversations": [ASK[0], {"from": "gpt", "value": " "}]}, {"nothing to learn"}),
    ({"conversations": ASK[:1]}, {"nothing to learn"}),
    ({"conversations": [ASK[0], *ASK]}, {"prompt refused"}),
    ({"conversations": [{"from": "gpt", "value": "Welcome."}, *ASK]}, {"turn dropped"}),
    ({"conversations": LONG}, {"too long"}),
    ({"vidoe": "a.mp4"}, {"bad record"}),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("data")
    nothing = np.zeros(0, np.float32)
    tiny.write_clip(made / "a.mp4")
    (made / "copy.mp4").write_bytes((made / "a.mp4").read_bytes())
    tiny.write_clip(made / "mute.mp4", frames=12, sound=nothing)
    tiny.write_clip(made / "silent.mp4", sound=np.zeros(32000, np.float32))
    tiny.write_clip(made / "one.mp4", frames=1, sound=nothing)
    tiny.write_wave(made / "tone.wav", tiny.tone(1.5))
    (made / "tone.mp4").write_bytes((made / "tone.wav").read_bytes())
    tiny.write_wave(made / "click.wav", tiny.tone(0.05))
    (made / "noise.mp4").write_bytes(bytes(range(256)) * 20)
    (made / "empty.mp4").write_bytes(b"")
    os.mkfifo(made / "pipe.mp4")
    pictures = [Image.new("RGB", (64, 48), (level, 10, 10)) for level in (200, 20, 90)]
    pictures[0].save(made / "p.png")
    pictures[1].save(made / "q.png")
    (made / "picture.mp4").write_bytes((made / "p.png").read_bytes())
    pictures[0].save(made / "moving.gif", save_all=True, append_images=pictures[1:], duration=200)
    (made / "moving.gif").rename(made / "moving.png")
    write(made / "r.jsonl", *({"id": f"<i>{i}", **keys} for i, (keys, _) in enumerate(EXPECTED)))
    return made


@pytest.fixture(scope="module")
def found(folder: Path) -> Examination:
    processor = tiny.processor(tiny.config())
    unread: list[tuple[str, str]] = []
    records = read_records([folder / "r.jsonl"], on_bad=lambda origin, why: unread.append((origin, why)))
    return examine(records, processor, unread=unread, workers=1, timeout_s=60, folder=folder / "out", max_length=400)


def test_every_kind_of_finding(found: Examination) -> None:
    kinds: dict[str, set[str]] = {}
    for finding in found.findings:
        kinds.setdefault(finding.origin, set()).add(finding.kind)
    expected = {f"r.jsonl:{i}": wanted for i, (_, wanted) in enumerate(EXPECTED, 1) if wanted}
    assert kinds == expected
    remarks = {"silent", "duplicate file", "turn dropped"}
    good = [f"r.jsonl:{i}" for i, (_, wanted) in enumerate(EXPECTED, 1) if wanted <= remarks]
    assert [record.origin for record in found.good] == good
    assert found.total == len(EXPECTED) and sum(found.kinds.values()) == len(EXPECTED) - 1
    assert all(finding.message for finding in found.findings)


def test_lengths_are_those_of_the_processor(found: Examination, folder: Path) -> None:
    processor: VideoLlama2Processor = tiny.processor(tiny.config())
    records = {record.origin: record for record in found.good}
    lengths = {length.origin: length for length in found.lengths}
    for origin in ("r.jsonl:2", "r.jsonl:3", "r.jsonl:6", "r.jsonl:7", "r.jsonl:8"):
        media = records[origin].media
        assert media is not None
        assert lengths[origin].media == sum(
            processor.media_inputs(media, protocol(processor.config.protocol))[1].tokens.values()
        ), origin
    assert 0 < lengths["r.jsonl:9"].supervised < lengths["r.jsonl:9"].text and lengths["r.jsonl:9"].media == 0
    assert found.seconds[:4] == pytest.approx([2.0, 2.0, 1.0, 1.5], abs=0.05)


def test_the_clean_list_is_read_as_the_same_records(found: Examination, folder: Path, tmp_path: Path) -> None:
    for place in (folder, tmp_path):
        paths = write_report(found, place)
        again = read_records([paths["clean"]])
        assert [r.conversation for r in again] == [r.conversation for r in found.good]
        assert [r.id for r in again] == [r.id for r in found.good]
        assert [r.kind for r in again] == [r.kind for r in found.good]
        assert all(Path(path).exists() for record in again for path in record.paths)
        assert [r.media and (r.media.start, r.media.end) for r in again] == [
            r.media and (r.media.start, r.media.end) for r in found.good
        ]
    inside = json.loads((folder / "clean.jsonl").read_text().splitlines()[0])
    assert inside["video"] == "a.mp4" and inside["_origin"] == "r.jsonl:1"


class Page(HTMLParser):
    """Counts elements, and notices what is not closed."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []
        self.open: list[str] = []
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append(tag)
        self.links += [value or "" for name, value in attrs if name in ("src", "href")]
        if tag not in ("meta", "br"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_page_is_self_contained(found: Examination) -> None:
    text = page(found)
    parsed = Page()
    parsed.feed(text)
    assert not parsed.open and not parsed.links and "script" not in parsed.seen
    assert parsed.seen.count("svg") == 5, "findings, seconds, tokens, tokens of text, supervised share"
    assert parsed.seen.count("rect") > 20 and "<i>" not in text and "<b>kite" not in text
    heights = [float(h) for h in re.findall(r'class="bar"[^>]* height="([0-9.]+)"', text)]
    assert max(heights) <= 150 and min(heights) >= 0
    assert "pipe.mp4" in text and "did you mean &#x27;video&#x27;" in text


def test_the_table_and_the_numbers(found: Examination) -> None:
    text = table(found)
    assert text.startswith(f"{len(EXPECTED)} records (")
    assert "supervised share" in text and "problem: r.jsonl:14: missing" in text and "more; the report" in text
    assert summary([]) is None
    assert summary([3.0, 1.0, 2.0]) == {
        "count": 3, "sum": 6.0, "least": 1.0, "median": 2.0, "mean": 2.0, "p95": 3.0, "most": 3.0
    }  # fmt: skip


def test_an_empty_report(tmp_path: Path) -> None:
    found = examine(read_records([write(tmp_path / "t.jsonl", {})]))
    assert not found.findings and "No findings" in page(found) and "1 good, 0 not" in table(found)
    write_report(found, tmp_path / "deep" / "er")
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(StorageError):
        write_report(found, tmp_path / "file")
    with pytest.raises(StorageError):
        examine(found.good, folder=tmp_path / "file")


def test_a_model_without_an_audio_encoder(tmp_path: Path, asked: Path) -> None:
    records = read_records([named(tmp_path, "a.mp4")], sound=True)
    found = examine(records, tiny.processor(tiny.config(audio_config=None)))
    assert [f.kind for f in found.findings] == ["not for this model"]


# ── nothing stops it ───────────────────────────────────────────────────────────────────────────────────────────


def test_a_hang_or_a_crash_costs_one_record(tmp_path: Path, asked: Path) -> None:
    path = named(tmp_path, "a", "hang", "b", "crash", "c", "crash2", "d")
    began = time.monotonic()
    found = examine(read_records([path]), workers=2, timeout_s=2.0, folder=tmp_path / "out")
    assert time.monotonic() - began < 20
    assert [(f.origin, f.kind) for f in found.findings] == [
        ("named.jsonl:2", "hung"), ("named.jsonl:4", "crashed"), ("named.jsonl:6", "crashed"),
    ]  # fmt: skip
    assert "SIGABRT" in found.findings[1].message and "2 s" in found.findings[0].message
    assert len(found.good) == 4
    assert gone(asked)

    asked.unlink()
    examine(read_records([path]), workers=2, timeout_s=2.0, folder=tmp_path / "out")
    assert not asked.exists(), "with the same limits nothing is tried again"
    examine(read_records([path]), workers=2, timeout_s=2.5, folder=tmp_path / "out")
    assert sorted(asked.read_text().split()) == ["crash", "crash2", "hang"]


def gone(log: Path, seconds: float = 10.0) -> bool:
    """Whether no process is left whose command names the log."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        commands = [p.read_bytes() for p in Path("/proc").glob("[0-9]*/cmdline") if readable(p)]
        if not any(str(log).encode() in c for c in commands):
            return True
        time.sleep(0.1)
    return False


def readable(path: Path) -> bool:
    try:
        path.read_bytes()
    except OSError:
        return False
    return True


def test_a_killed_check_resumes(tmp_path: Path, asked: Path) -> None:
    names = [f"slow{i}" for i in range(20)]
    path = named(tmp_path, *names)
    program = (
        "import sys; from pathlib import Path; from videollama2.data.doctor import decoding; "
        "from videollama2.data.doctor.examine import examine; from videollama2.data.records import read_records; "
        f"decoding.COMMAND = {decoding.COMMAND!r}; "
        f"examine(read_records([{str(path)!r}]), workers=2, folder=Path({str(tmp_path / 'out')!r}))"
    )
    journal = tmp_path / "out" / "journal.jsonl"
    with subprocess.Popen([sys.executable, "-c", program]) as child:
        while not journal.exists() or journal.read_bytes().count(b"\n") < 6:
            assert child.poll() is None
            time.sleep(0.02)
        child.send_signal(signal.SIGKILL)
    assert gone(asked), "workers end when nobody asks them any more"
    kept = journal.read_bytes()
    done = kept.count(b"\n")
    assert 6 <= done < len(names)
    journal.write_bytes(kept[: kept.rfind(b"\n") - 20])  # killed in the middle of a line
    asked.unlink()

    found = examine(read_records([path]), workers=2, folder=tmp_path / "out")
    assert len(found.good) == len(names)
    assert found.reused == done - 1 and len(asked.read_text().split()) == len(names) - found.reused

    asked.unlink()
    (tmp_path / "slow3").write_bytes(b"y" * 100)
    examine(read_records([path]), workers=2, folder=tmp_path / "out")
    assert asked.read_text().split() == ["slow3"], "a file that changed is opened again"


def test_memory_is_limited(tmp_path: Path) -> None:
    Image.new("RGB", (7000, 7000)).save(tmp_path / "large.png")
    Image.new("RGB", (70, 70)).save(tmp_path / "small.png")
    path = write(tmp_path / "r.jsonl", {"image": "large.png"}, {"image": "small.png"})
    found = examine(read_records([path]), workers=1, memory_mb=90)
    assert [(f.origin, f.kind) for f in found.findings] == [("r.jsonl:1", "too large")]


def test_workers_that_fail_to_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    records = read_records([named(tmp_path, "a", "b", "c")])
    monkeypatch.setattr(decoding, "COMMAND", (sys.executable, "-c", "raise SystemExit('no such luck')"))
    with pytest.raises(VideoLlama2Error, match="no such luck"):
        examine(records)
    monkeypatch.setattr(decoding, "COMMAND", (str(tmp_path / "nothing"),))
    with pytest.raises(VideoLlama2Error, match="could not start a media worker"):
        examine(records)


def test_an_interrupted_check_leaves_no_process(tmp_path: Path, asked: Path) -> None:
    def interrupt(what: str, done: int, total: int) -> None:
        raise KeyboardInterrupt

    records = read_records([named(tmp_path, "a", "hang", "hang2", "b")])
    with pytest.raises(KeyboardInterrupt):
        examine(records, workers=2, on_progress=interrupt)
    assert gone(asked)


def test_a_decoder_with_a_bug(monkeypatch: pytest.MonkeyPatch) -> None:
    task = {"source": "x", "start": None, "end": None, "video": True, "audio": False, "frames": 4, "protocol": "full"}
    for error, name in ((ZeroDivisionError("0"), "UnreadableMedia"), (MemoryError(), "MediaTooLarge")):

        def fail(*_: Any, error: BaseException = error, **__: Any) -> Any:
            raise error

        monkeypatch.setattr(worker, "open_clip", fail)
        assert worker.answer(task)["error"] == name


@pytest.mark.parametrize(
    "wish",
    [
        {"workers": -1}, {"timeout_s": 0}, {"timeout_s": math.nan}, {"timeout_s": math.inf}, {"memory_mb": 0},
        {"memory_mb": 10**15}, {"max_length": 0}, {"frames": 0}, {"frames": -3}, {"frames": 20_000},
    ],
)  # fmt: skip
def test_invalid_settings(tmp_path: Path, wish: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        examine([], **wish)


def test_damaged_journal_lines_are_checked_again(tmp_path: Path, asked: Path) -> None:
    records = read_records([named(tmp_path, "a.mp4", "b.mp4")])
    assert len(examine(records, folder=tmp_path).good) == 2
    journal = tmp_path / "journal.jsonl"
    lines = [json.loads(line) for line in journal.read_text().splitlines()]
    for line in lines[:1]:
        del line["answer"]["losses"], line["answer"]["hash"]
    junk = ["[" * 100_000, "[]", "null", '{"of": "text", "key": "x", "answer": {}, "limits": {}}', "\0"]
    journal.write_text("\n".join([*junk, *map(json.dumps, lines)]))
    found = examine(records, folder=tmp_path)
    assert len(found.good) == 2 and found.reused == len(lines) - 1


def test_a_changed_picture_in_a_folder_is_opened_again(tmp_path: Path, asked: Path) -> None:
    frames = tmp_path / "frames"
    frames.mkdir()
    (frames / "0.jpg").write_bytes(b"one")
    records = read_records([write(tmp_path / "t.jsonl", {"video": "frames"})])
    examine(records, folder=tmp_path / "out")
    assert examine(records, folder=tmp_path / "out").reused == 1
    (frames / "0.jpg").write_bytes(b"other")
    assert examine(records, folder=tmp_path / "out").reused == 0
    assert asked.read_text().split() == ["frames", "frames"]


def test_each_file_has_its_clean_list(tmp_path: Path) -> None:
    files = [tmp_path / place / name for place, name in (("a", "t"), ("a", "t-3"), ("b", "t"), ("c", "t"))]
    for number, file in enumerate(files):
        file.parent.mkdir(exist_ok=True)
        write(file.with_suffix(".jsonl"), {"id": number, "conversations": ASK})
    (tmp_path / "journal.jsonl").write_text('{"of": "media", "key": 1, "answer": 2, "limits": {}}\n')  # not ours
    records = read_records([file.with_suffix(".jsonl") for file in files])
    found = examine(records, folder=tmp_path)
    found.good = records  # they all say the same
    lists = [path for name, path in write_report(found, tmp_path).items() if name.startswith("clean")]
    assert [json.loads(path.read_text())["id"] for path in lists] == ["0", "1", "2", "3"]


def test_a_file_without_good_records_has_an_empty_list(tmp_path: Path) -> None:
    """What is kept back must not take the name of a list to learn from because the other file is all bad."""
    bad = write(tmp_path / "train.jsonl", {"video": "none.mp4"})
    good = write(tmp_path / "held-out.jsonl", {})
    assert main(["data", "doctor", str(bad), str(good), "--output", str(tmp_path / "out")]) == 3
    lists = {path.name: len(path.read_text().splitlines()) for path in (tmp_path / "out").glob("*clean*")}
    assert lists == {"clean-train.jsonl": 0, "clean-held-out.jsonl": 1}


# ── the command ────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_command(tmp_path: Path, asked: Path, tiny_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = named(tmp_path, "a.mp4", "b.mp4")
    flags = ["data", "doctor", str(path), "--output", str(tmp_path / "out"), "--model", str(tiny_folder)]
    assert main([*flags, "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["good"] == 2 and report["tokens"]["count"] == 2 and not report["findings"]
    (tmp_path / "b.mp4").unlink()
    assert main(flags) == 3
    shown = capsys.readouterr()
    assert "missing" in shown.out and "clean.jsonl" in shown.err
    assert {p.name for p in (tmp_path / "out").iterdir()} == {
        "clean.jsonl", "journal.jsonl", "report.html", "report.json",
    }  # fmt: skip


def test_the_command_on_a_missing_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "doctor", str(tmp_path / "none.jsonl")]) == 3
    assert "is not a file" in capsys.readouterr().err


# ── any number of records ──────────────────────────────────────────────────────────────────────────────────────


def test_lists_and_dictionaries_on_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(on_disk, "_BLOCK", 4)
    for count in (0, 3, 4, 5, 13):
        kept = on_disk.DiskList(range(count))
        assert len(kept) == count and list(kept) == list(range(count)) and kept == list(range(count))
        assert [kept[k] for k in range(-count, count)] == 2 * list(range(count)) and kept[2:9] == list(range(count))[
            2:9
        ]
    assert kept != [*range(12), 0]
    with pytest.raises(IndexError):
        kept[13]
    held = on_disk.DiskDict()
    for key in ("b", "a\udcff", '"', "b"):
        held[key] = [key, None]
    assert held.setdefault("b", 1) == ["b", None] and held.setdefault("c", 1) == 1 and len(held) == 4
    assert [key for key, _ in held.items()] == ["b", "a\udcff", '"', "c"] and "a\udcff" in held and "x" not in held
    with pytest.raises(KeyError):
        held["x"]
    held.close()


def test_a_full_check_keeps_little_in_memory(tmp_path: Path, asked: Path) -> None:
    """Its memory grows by a few bytes a record, not by records, files, answers and findings."""

    class Records(Sequence[Record]):
        def __init__(self, count: int) -> None:
            self.count = count

        def __len__(self) -> int:
            return self.count

        def __getitem__(self, place: Any) -> Any:
            if place >= self.count:
                raise IndexError
            line = {"video": f"gone-{place:09}-{'x' * 200}.mp4", "conversations": ASK}
            return of_mapping(line, Place(str(place), f"r:{place}", f"line {place}"), str(tmp_path), sound=False)

    def peak(count: int) -> int:
        tracemalloc.start()
        found = examine(Records(count), workers=1)
        write_report(found, tmp_path / "out")
        assert len(found.findings) == found.total == count and found.counted("problem") == {"missing": count}
        highest = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return highest

    small, large = peak(6_000), peak(30_000)
    assert large < small + 2_000_000, (small, large)


def test_statistics_of_many_values(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report, "_SORTED", 100)
    stats = summary(range(1_000))
    assert stats is not None and stats["count"] == 1_000 and stats["sum"] == 499_500 and stats["most"] == 999
    assert stats["median"] == pytest.approx(500, abs=10) and stats["p95"] == pytest.approx(950, abs=10)
