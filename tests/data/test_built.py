"""Built sets as training reads them: lines where they stand, orders without lists, media inside shards."""

import json
import shutil
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from videollama2 import cli
from videollama2.data import mixture, tar_media
from videollama2.data.built import BuiltRecords, JoinedRecords
from videollama2.data.collate import Sample, Skipped
from videollama2.data.doctor.examine import examine
from videollama2.data.mixture import MixtureOrder
from videollama2.data.permutation import Permutation
from videollama2.data.records import as_mapping, missing_media, read_records
from videollama2.data.samples import Samples
from videollama2.data.sets.build import build_set
from videollama2.data.sets.registry import training_set
from videollama2.errors import DataError, MediaNotFound, MediaTooLarge, UnreadableMedia
from videollama2.processing import VideoLlama2Processor

from .set_miniatures import said


def write_set(folder: Path, files: list[str], kind: str = "video", name: str = "music-avqa") -> Path:
    """A built set of conversations about files that lie in `folder`."""
    rows = [said(f"What is number {k}?", f"answer {k}", id=k, **{kind: file}) for k, file in enumerate(files)]
    (folder / "mine.json").write_text(json.dumps(rows))
    build_set(training_set(name), folder / "mine.json", [folder], folder / "sets")
    return folder / "sets" / name / "records.jsonl"


@pytest.fixture
def built(tmp_path: Path) -> Path:
    for k in range(6):
        (tmp_path / f"ü {k}.mp4").touch()
    return write_set(tmp_path, [f"ü {k}.mp4" for k in range(6)])


def test_they_are_the_records_of_the_file(built: Path) -> None:
    lazy, whole = BuiltRecords(built), read_records([built])
    assert len(lazy) == 6 and lazy.kinds == {"av": 6} and lazy[2:4] == [lazy[2], lazy[3]] and lazy[-1] == lazy[5]
    assert [(r.id, r.conversation, r.media) for r in lazy] == [(r.id, r.conversation, r.media) for r in whole]
    assert len({record.origin for record in lazy}) == 6
    with pytest.raises(IndexError):
        lazy[6]
    joined = JoinedRecords([whole[:2], [], lazy])
    assert len(joined) == 8 and [joined[k].id for k in (0, 1, 2, -1)] == ["0", "1", "0", "5"]
    assert [joined.span(k) for k in range(3)] == [range(2), range(2, 2), range(2, 8)]


def test_a_changed_set_is_an_error(built: Path) -> None:
    with built.open("a") as file:
        file.write("{}\n")
    with pytest.raises(DataError, match="was changed since it was built"):
        BuiltRecords(built)
    (built.parent / "manifest.json").write_text("{}")
    with pytest.raises(DataError, match="is damaged"):
        BuiltRecords(built)
    (built.parent / "manifest.json").unlink()
    with pytest.raises(DataError, match="no finished set"):
        BuiltRecords(built)


@pytest.mark.parametrize("n", [1, 2, 3, 5, 64, 65, 1000, 4097])
def test_a_permutation_has_every_number_once(n: int) -> None:
    numbers = Permutation(n, [0, 1, 2]).at(np.arange(n))
    assert sorted(numbers.tolist()) == list(range(n))
    assert [Permutation(n, [0, 1, 2])[k] for k in range(min(n, 5))] == numbers[:5].tolist()


def test_a_permutation_is_shuffled_and_depends_on_its_seeds() -> None:
    first, second = (Permutation(100_000, [seed]).at(np.arange(1000)) for seed in (1, 2))
    assert abs(first.mean() - 50_000) < 4000 and abs(np.corrcoef(np.arange(1000), first)[0, 1]) < 0.15
    assert (first == second).mean() < 0.01
    assert Permutation(10_000_000, [7]).at(np.array([0, 1, 9_999_999])).tolist() == FIRST


FIRST = [3637938, 3763076, 6924761]  # the order of runs that were started must stay


def test_the_order_of_large_pools_is_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mixture, "MAX_LISTED", 10)
    order = MixtureOrder({"a": range(30), "b": range(30, 45)}, batch=9, seed=3)
    seen = [record for n in range(order.steps_per_epoch) for record in order.step(n)]
    assert order.steps_per_epoch == 5 and sorted(seen) == list(range(45)) and seen != sorted(seen)
    again = MixtureOrder({"a": range(30), "b": range(30, 45)}, batch=9, seed=3)
    assert again.step(4) == order.step(4)  # at any time, from nothing
    apart = MixtureOrder({"a": range(5), "b": range(9, 20)}, batch=4, seed=0)
    assert sorted(r for n in range(4) for r in apart.step(n)) == [*range(5), *range(9, 20)]


# ── media inside shards ────────────────────────────────────────────────────────────────────────────────────────


def packed(folder: Path, *files: Path) -> Path:
    shard = folder / "00000.tar"
    with tarfile.open(shard, "w") as tar:
        for file in files:
            tar.add(file, f"deep/{file.name}")
    return shard


def samples_of(path: Path, processor: VideoLlama2Processor, **how: Any) -> list[Sample | Skipped]:
    made = Samples(BuiltRecords(path), processor, protocol="full", frames=None, style="chat", max_length=512, **how)
    return [made[k] for k in range(len(made))]


def test_a_clip_in_a_shard_is_the_clip(media: Path, tmp_path: Path, processor: VideoLlama2Processor) -> None:
    (tmp_path / "loose").mkdir()
    (tmp_path / "tar").mkdir()
    shutil.copy(media / "clip.mp4", tmp_path / "loose" / "clip.mp4")
    packed(tmp_path / "tar", media / "clip.mp4")
    (one,) = samples_of(write_set(tmp_path / "loose", ["clip.mp4"]), processor)
    (other,) = samples_of(path := write_set(tmp_path / "tar", ["clip.mp4"]), processor)
    assert isinstance(one, Sample) and isinstance(other, Sample)
    assert one.pixels is not None and other.pixels is not None and one.fbank is not None and other.fbank is not None
    assert torch.equal(one.pixels, other.pixels) and torch.equal(one.fbank, other.fbank)
    assert one.example == other.example and not list(tmp_path.rglob("*.media"))
    records = read_records([path])
    assert missing_media(records) == []
    found = examine(records, workers=1)
    assert [len(found.good), found.findings] == [1, []] and found.seconds[0] > 0


def test_what_is_wrong_with_a_shard_is_said(media: Path, tmp_path: Path, processor: VideoLlama2Processor) -> None:
    shard = packed(tmp_path, media / "clip.mp4")
    path = write_set(tmp_path, ["clip.mp4"])
    member = f"{shard}/deep/clip.mp4"
    whole = shard.read_bytes()
    shard.write_bytes(whole[:2000])
    (skipped,) = samples_of(path, processor, on_unreadable="skip")
    assert isinstance(skipped, Skipped) and "00000.tar" in skipped.reason
    shard.write_bytes(b"no tar" * 1000)
    with pytest.raises(UnreadableMedia, match="can't be read as a tar"):
        tar_media.tar_member(member)
    with tarfile.open(shard, "w"):
        pass
    with pytest.raises(MediaNotFound, match=r"00000\.tar has no member deep/clip.mp4"):
        tar_media.tar_member(member)
    shard.unlink()
    assert missing_media(read_records([path])) == [("records.jsonl:1", member)]
    with pytest.raises(MediaNotFound, match=r"00000\.tar not found"):
        tar_media.tar_member(member)
    with pytest.raises(MediaTooLarge, match="expected at most"):
        tar_media.TarMember("a.tar", "b", 0, 3 << 30).read()


def test_a_member_is_read_from_its_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A set that is shuffled over many shards doesn't read their tables; of a shard written anew, the table is read."""
    (tmp_path / "train.csv").write_text("audiocap_id,youtube_id,start_time,caption\n1,v0,0,Rain\n2,v1,0,Wind\n")
    long = "n" * 120  # in an extended header of its own

    def write(shard: Path, *contents: bytes) -> None:
        with tarfile.open(shard, "w") as tar:
            for k, content in enumerate(contents):
                (tmp_path / "part").write_bytes(content)
                tar.add(tmp_path / "part", f"{long}/v{k}.wav")

    write(tmp_path / "0.tar", b"one", b"two!")
    build_set(training_set("audiocaps"), tmp_path, [], tmp_path / "sets")
    path = tmp_path / "sets" / "audiocaps" / "records.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [line["audio"] for line in lines] == [f"{tmp_path}/0.tar/{long}/v{k}.wav" for k in range(2)]
    placed = [record.paths[0] for record in BuiltRecords(path)]
    with monkeypatch.context() as without_tables:
        without_tables.setattr(tar_media, "_members", None)
        assert [tar_media.in_memory(each) for each in placed] == [b"one", b"two!"]
    record = read_records([path])[0]
    assert as_mapping(record, tmp_path)["audio"] == f"0.tar/{long}/v0.wav" and record.paths[0] == placed[0]
    (tmp_path / "again.jsonl").write_text(json.dumps(as_mapping(record, tmp_path)))
    assert read_records([tmp_path / "again.jsonl"])[0].media == record.media
    write(tmp_path / "0.tar", b"another", b"two!")
    assert [tar_media.in_memory(each) for each in placed] == [b"another", b"two!"]
    write(tmp_path / "0.tar", b"one")
    with pytest.raises(MediaNotFound, match=r"0\.tar/nnn.*/v1.wav not found: 0.tar has no member"):
        tar_media.in_memory(placed[1])


@pytest.mark.parametrize("file", ["records.jsonl", "records.index"])
def test_a_set_without_one_of_its_files_is_an_error(file: str, built: Path) -> None:
    built.with_name(file).unlink()
    with pytest.raises(DataError, match=r"records.jsonl or records.index can't be read \(No such file"):
        BuiltRecords(built)
    built.with_name(file).write_bytes(b"123")
    with pytest.raises(DataError, match=r"build( it|)( the set|) again"):
        BuiltRecords(built)


def test_a_folder_named_as_a_shard_is_a_folder(tmp_path: Path) -> None:
    (tmp_path / "a.tar").mkdir()
    assert not tar_media.is_tar_path(f"{tmp_path}/a.tar/b.mp4") and tar_media.is_tar_path("gone.tar/b.mp4")


def test_the_doctor_reads_only_its_sample(
    media: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for k in range(9):
        shutil.copy(media / "tone.wav", tmp_path / f"{k}.wav")
    path = write_set(tmp_path, [f"{k}.wav" for k in range(9)], "audio", "wavcaps")
    monkeypatch.setattr("videollama2.data.records.read_records", None)
    argv = ["data", "doctor", str(path), "--sample", "2", "--workers", "1", "--output", str(tmp_path / "checked")]
    assert cli.main(argv) == 0
    assert "2 records (2 audio): 2 good" in capsys.readouterr().out
    report = json.loads((tmp_path / "checked" / "report.json").read_text())
    assert report["settings"]["sample"] == "2 of 9 records"
    assert cli.main([*argv[:4], "0", *argv[5:]]) == 2
