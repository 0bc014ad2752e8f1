"""The loop: what becomes of items, whatever they do; and runs that are stopped, shared and gone on with."""

import json
from pathlib import Path
from typing import Any

import pytest

from videollama2.errors import DataError, MissingExtra, StorageError, UnreadableMedia, UsageError, VideoLlama2Error
from videollama2.evals.items import Result
from videollama2.evals.journal import read_results
from videollama2.evals.manifest import read_manifest
from videollama2.evals.run import Run, evaluate
from videollama2.jobs import parse_share, share_from_environment

from .fake import FakeEngine, Letters, letters, medium, outcomes

KNOWN = {"q0?": "A", "q1?": "B", "q2?": "who knows", "q3?": UnreadableMedia("clip.mp4 is corrupt")}


def run(
    tmp_path: Path, engine: FakeEngine, *, count: int = 4, out: str = "out", rows: Any = None, **kwargs: Any
) -> Run:
    folder = letters(tmp_path / "data", count, **(rows or {}))
    return evaluate(engine, Letters(), folder, tmp_path / out, **kwargs)


def files(folder: Path) -> dict[str, bytes]:
    names = ("results.jsonl", "summary.json", "manifest.json")
    return {name: (folder / name).read_bytes() for name in names}


# ── what becomes of items ──────────────────────────────────────────────────────────────────────────────────────────


def test_the_four_outcomes(tmp_path: Path) -> None:
    done = run(tmp_path, FakeEngine(KNOWN))
    assert outcomes(done.results) == ["right", "wrong", "unparsable", "failed"]
    assert done.left == 0 and done.summary["ablations"]["none"]["metrics"]["accuracy"]["value"] == 0.25
    assert done.results[3].error == "UnreadableMedia: clip.mp4 is corrupt" and done.results[3].reply is None
    assert [r.read for r in done.results] == ["A", "B", None, None] and done.results[2].reply == "who knows"
    assert read_results(done.folder) == list(done.results)


def test_what_nobody_expects_is_one_failed_item(tmp_path: Path) -> None:
    """An error of no tree of ours, and a reply that its own rules can't read."""
    error = RuntimeError("out of luck\nsecond line")
    error.add_note("at step 3")
    done = run(tmp_path, FakeEngine({"q1?": error, "q2?": "odd"}, otherwise="A"))
    assert outcomes(done.results) == ["right", "failed", "failed", "right"]
    assert done.results[1].error == "unexpected RuntimeError: out of luck second line at step 3"
    assert done.results[2].error == "reading the reply: unexpected ZeroDivisionError: odd"
    assert done.results[2].reply == "odd"


@pytest.mark.parametrize("error", [StorageError("full"), MissingExtra("pip install x"), KeyboardInterrupt()])
@pytest.mark.parametrize("how", [{}, {"batch": 2}, {"threads": 2}])
def test_what_would_befall_every_item_ends_the_run(tmp_path: Path, error: Any, how: dict[str, int]) -> None:
    engine = FakeEngine({"q2?": error}, otherwise="A")
    with pytest.raises(type(error)):
        run(tmp_path, engine, **how)
    kept = {r.id for r in read_results(tmp_path / "out" / "letters")} if how != {"threads": 2} else set()
    assert kept <= {"q0", "q1", "q3"}
    engine.replies = {}
    assert outcomes(run(tmp_path, engine, **how).results) == ["right"] * 4


def test_a_machine_that_is_out_of_order_ends_the_run(tmp_path: Path) -> None:
    with pytest.raises(VideoLlama2Error, match=r"25 items in a row failed unexpectedly.*device.*--retry-failed"):
        run(tmp_path, FakeEngine({"q3?": "A"}, otherwise=RuntimeError("the device is lost")), count=40)
    assert len(read_results(tmp_path / "out" / "letters")) == 4 + 25
    assert outcomes(run(tmp_path, FakeEngine(otherwise="A"), count=40, retry=True).results) == ["right"] * 40


def test_missing_media_are_failed_and_counted(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "a.mp4").write_bytes(b"x")
    engine = FakeEngine(otherwise="A")
    done = run(tmp_path, engine, rows={"q1": {"video": "a.mp4"}, "q2": {"video": "gone.mp4"}})
    assert outcomes(done.results) == ["right", "right", "failed", "right"]
    assert done.results[2].error == "MediaNotFound: gone.mp4 not found"
    assert len(engine.asked) == 3 and medium(engine.asked[1]).endswith("a.mp4")
    covered = read_manifest(done.folder)["coverage"]
    assert (covered["asked"], covered["with_media"], covered["missing"]) == (4, 3, 1)
    assert covered["missing_named"] == ["q2: gone.mp4 not found"]


def test_a_batch_with_a_bad_item_is_asked_one_by_one(tmp_path: Path) -> None:
    engine = FakeEngine({"q5?": UnreadableMedia("broken")}, otherwise="A")
    done = run(tmp_path, engine, count=8, batch=3, rows={"q7": {"tokens": 64}})
    assert outcomes(done.results) == ["right"] * 5 + ["failed"] + ["right"] * 2
    assert engine.batches == [3, 3], "the seventh differs in its options from the eighth"
    assert done.results == run(tmp_path, FakeEngine(engine.replies, otherwise="A"), count=8, out="single",
                               rows={"q7": {"tokens": 64}}).results  # fmt: skip


def test_ablations_ask_the_same_with_less(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "a.mp4").write_bytes(b"x")
    engine = FakeEngine(lambda request: "A" if request.media and request.media[0].audio else "B")
    rows = {"q0": {"video": "a.mp4"}, "q1": {"video": "gone.mp4"}}
    done = run(tmp_path, engine, count=2, rows=rows, ablations=("none", "text-only", "video", "audio"))
    assert [r.ablation for r in done.results[::2]] == ["none", "audio", "video", "text-only"]
    assert outcomes(done.results) == ["right", "failed", "wrong", "failed", "right", "failed", "wrong", "failed"]
    asked = [None if not r.media else (r.media[0].video, r.media[0].audio) for r in engine.asked]
    assert asked == [(True, True), (True, False), (False, True), None]
    assert len({r.question for r in engine.asked}) == 1
    again = run(tmp_path, engine, count=2, rows=rows)
    assert again.results == done.results and len(engine.asked) == 4, "columns that were asked before stay"


def test_limit_takes_items_from_everywhere(tmp_path: Path) -> None:
    done = run(tmp_path, FakeEngine(otherwise="A"), count=10, limit=3)
    assert [r.id for r in done.results] == ["q0", "q3", "q6"]
    assert done.manifest["coverage"]["available"] == 10


def test_settings_choose_the_protocol(tmp_path: Path) -> None:
    for setting, protocol in (("strict", None), ("paper", "paper")):
        engine = FakeEngine(otherwise="A")
        done = run(tmp_path, engine, out=setting, setting=setting)
        assert {request.protocol for request in engine.asked} == {protocol}
        assert done.manifest["run"]["protocol"] == (protocol or "released") and done.manifest["run"]["frames"] == 8


# ── stopped, shared, gone on with ──────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("batch", [1, 3])
def test_stopped_and_gone_on_with_it_is_the_same(tmp_path: Path, batch: int) -> None:
    whole = run(tmp_path, FakeEngine(KNOWN, otherwise="B"), count=9, out="whole", batch=batch)

    class Stopped(FakeEngine):
        def answer(self, *args: Any, **kwargs: Any) -> Any:
            if len(self.asked) == 5:
                raise KeyboardInterrupt
            return super().answer(*args, **kwargs)

    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, Stopped(KNOWN, otherwise="B"), count=9, batch=batch)
    results = tmp_path / "out" / "letters" / "results.jsonl"
    kept = results.read_bytes()
    results.write_bytes(kept[:-20])  # killed in the middle of a line
    assert len(read_results(results.parent)) == kept.count(b"\n") - 1
    assert not (results.parent / "summary.json").exists()
    engine = FakeEngine(KNOWN, otherwise="B")
    again = run(tmp_path, engine, count=9, batch=batch)
    assert len(engine.asked) < 9 and files(again.folder) == files(whole.folder)
    last = FakeEngine()
    assert files(run(tmp_path, last, count=9, batch=batch).folder) == files(whole.folder) and not last.asked


def test_shares_make_the_whole(tmp_path: Path) -> None:
    whole = run(tmp_path, FakeEngine(KNOWN, otherwise="B"), count=9, out="whole", batch=2)
    for order in ((0, 1, 2), (2, 0, 1)):
        for rank in order:
            part = run(tmp_path, FakeEngine(KNOWN, otherwise="B"), count=9, batch=2, rank=rank, world=3,
                       out=f"out{order[0]}")  # fmt: skip
            assert (part.left > 0) == (rank != order[-1])
        assert files(part.folder) == files(whole.folder)


def test_one_process_ends_what_two_began(tmp_path: Path) -> None:
    whole = run(tmp_path, FakeEngine(KNOWN, otherwise="B"), count=9, out="whole")
    run(tmp_path, FakeEngine(KNOWN, otherwise="B"), count=9, rank=1, world=2)
    engine = FakeEngine(KNOWN, otherwise="B")
    assert files(run(tmp_path, engine, count=9).folder) == files(whole.folder) and len(engine.asked) == 5


def test_failed_items_are_asked_again_on_request(tmp_path: Path) -> None:
    run(tmp_path, FakeEngine(KNOWN))
    engine = FakeEngine(otherwise="A")
    run(tmp_path, engine)
    assert not engine.asked
    assert outcomes(run(tmp_path, engine, retry=True).results) == ["right", "wrong", "unparsable", "right"]
    assert len(engine.asked) == 1


def test_a_medium_that_came_later_is_asked_about(tmp_path: Path) -> None:
    data = letters(tmp_path / "later", 3, q1={"video": "late.mp4"})

    def asked(retry: bool = False) -> Run:
        return evaluate(FakeEngine(otherwise="A"), Letters(), data, tmp_path / "out", retry=retry)

    assert outcomes(asked().results) == ["right", "failed", "right"]
    (data / "late.mp4").write_bytes(b"")
    done = asked(retry=True)
    assert outcomes(done.results) == ["right"] * 3 and done.manifest["coverage"]["missing"] == 0
    place = done.folder / "results.jsonl"
    cut = place.read_text(encoding="utf-8").replace('"range_seconds": [null, null]', '"range_seconds": [0.5, null]')
    place.write_text(cut, encoding="utf-8")
    with pytest.raises(UsageError, match=r"q1 was asked about 0.5 to – s, but the annotation files now have – to – s"):
        asked()


def test_a_folder_holds_one_run(tmp_path: Path) -> None:
    run(tmp_path, FakeEngine(KNOWN))
    with pytest.raises(UsageError, match="setting was strict, now paper"):
        run(tmp_path, FakeEngine(KNOWN), setting="paper")
    with pytest.raises(UsageError, match="prompts_sha256"):
        run(tmp_path, FakeEngine(KNOWN), count=5)
    other = FakeEngine(KNOWN)
    other.model.weight.data[0] = 7.0
    with pytest.raises(UsageError, match="weights_sha256"):
        run(tmp_path, other)
    (tmp_path / "out" / "letters" / "manifest.json").write_text("{", encoding="utf-8")
    with pytest.raises(DataError, match="not the manifest of a run"):
        run(tmp_path, FakeEngine(KNOWN))


def test_another_machine_is_told(tmp_path: Path) -> None:
    place = run(tmp_path, FakeEngine(KNOWN)).folder / "manifest.json"
    told = json.loads(place.read_bytes())
    told["environment"][0]["libraries"]["torch"] = "0.1"
    place.write_text(json.dumps(told), encoding="utf-8")
    assert len(run(tmp_path, FakeEngine(KNOWN)).manifest["environment"]) == 2


def test_what_is_wrong_is_said(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"letters.jsonl:2 and letters.jsonl:1 have the same id 'q0'"):
        run(tmp_path, FakeEngine(), rows={"q1": {"id": "q0"}})
    with pytest.raises(DataError, match="letters: no items in the annotation files"):
        run(tmp_path, FakeEngine(), count=0)
    for wrong in ({"ablations": ("sound",)}, {"ablations": ()}, {"limit": 0}, {"batch": 0}, {"rank": 2, "world": 2}):
        with pytest.raises(UsageError):
            run(tmp_path, FakeEngine(), **wrong)
    for text in ("2/2", "x", "1", "-1/2", ""):
        with pytest.raises(UsageError, match="expected a share K/N"):
            parse_share(text)
    assert share_from_environment({}) == (0, 1) and share_from_environment({"RANK": "3", "WORLD_SIZE": "4"}) == (3, 4)
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(StorageError):
        run(tmp_path, FakeEngine(), out="file")
    done = run(tmp_path, FakeEngine(otherwise="A"))
    for line in ("{}\n", "[]\n", "nonsense\n"):
        (done.folder / "results-7.jsonl").write_text(line, encoding="utf-8")
        with pytest.raises(DataError, match=r"results-7.jsonl:1"):
            read_results(done.folder)
    with pytest.raises(UsageError, match=r"no results\.jsonl; expected the folder of a run"):
        read_results(tmp_path)


def test_two_writers_are_refused(tmp_path: Path) -> None:
    pytest.importorskip("fcntl")

    class Nested(FakeEngine):
        def answer(self, *args: Any, **kwargs: Any) -> Any:
            run(tmp_path, FakeEngine())
            return super().answer(*args, **kwargs)

    done = run(tmp_path, Nested(otherwise="A"))
    assert done.results[0].error is not None and "another process is writing" in done.results[0].error


def test_threads_change_nothing(tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []

    def progress(results: list[Result], done: int, total: int) -> None:
        told.append((done, total))

    whole = run(tmp_path, FakeEngine(KNOWN, otherwise="B"), count=20, out="whole")
    several = run(tmp_path, FakeEngine(KNOWN, otherwise="B"), count=20, threads=4, on_progress=progress)
    assert files(several.folder) == files(whole.folder)
    assert told == [(i, 20) for i in range(21)]
