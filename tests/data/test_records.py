"""Records of every format, and every way in which a file of them can be wrong."""

import io
import json
import multiprocessing
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from videollama2.data.labels import chat_example
from videollama2.data.records import Record, as_mapping, missing_media, read_records
from videollama2.errors import DataError

from .. import tiny

ASK = [{"from": "human", "value": "What is it?"}, {"from": "gpt", "value": "A kite."}]


def jsonl(path: Path, *records: Any) -> Path:
    path.write_text("".join(json.dumps(r) + "\n" for r in records), encoding="utf-8")
    return path


def one(tmp_path: Path, **keys: Any) -> Record:
    return read_records([jsonl(tmp_path / "one.jsonl", {"conversations": ASK, **keys})])[0]


def complaint(tmp_path: Path, **keys: Any) -> str:
    with pytest.raises(DataError) as raised:
        one(tmp_path, **keys)
    assert f"{tmp_path / 'one.jsonl'}, line 1: " in str(raised.value)
    return str(raised.value)


# ── what a record can be ───────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("keys", "kind", "tag"),
    [
        ({"video": "a.mp4"}, "video", "<video>\n"),
        ({"video": "a.mp4", "sound": True}, "av", "<video>\n"),
        ({"video": "a.mp4", "sound": False}, "video", "<video>\n"),
        ({"video": ["1.jpg", "2.jpg"]}, "video", "<video>\n"),
        ({"image": "a.jpg"}, "image", "<image>\n"),
        ({"audio": "a.wav"}, "audio", "<audio>\n"),
        ({"audio": "a.mp4"}, "audio", "<audio>\n"),
        ({}, "text", ""),
    ],
)
def test_kinds(tmp_path: Path, keys: dict[str, Any], kind: str, tag: str) -> None:
    record = one(tmp_path, **keys)
    assert record.kind == kind
    assert [turn["value"] for turn in record.conversation] == [f"{tag}What is it?", "A kite."]
    assert record.id == "1" and record.origin == "one.jsonl:1"
    assert all(Path(path).parent == tmp_path for path in record.paths)


def test_ranges_and_frames(tmp_path: Path) -> None:
    media = one(tmp_path, video="a.mp4", start=1, end=2.5, sound=True).media
    assert media is not None and (media.start, media.end, media.video, media.audio) == (1.0, 2.5, True, True)
    frames = one(tmp_path, video=["b/1.jpg", "/b/2.jpg"]).media
    assert frames is not None and frames.source == (f"{tmp_path}/b/1.jpg", "/b/2.jpg") and not frames.audio


def test_tracks(tmp_path: Path) -> None:
    record = one(tmp_path, video="a.mp4", video_track=2, audio_track="eng", sound=True)
    assert record.media is not None and record.media.tracks == {"video_track": 2, "audio_track": "eng"}
    assert {"video_track": 2, "audio_track": "eng"}.items() <= as_mapping(record, tmp_path).items()
    sheet = tmp_path / "a.csv"
    sheet.write_text("audio,question,answer,audio_track\na.mp4,Who?,Ann,2\na.mp4,Who?,Ann,jpn\na.mp4,Who?,Ann,\n")
    tracks = [r.media.tracks for r in read_records([sheet]) if r.media is not None]
    assert tracks == [{"audio_track": 2}, {"audio_track": "jpn"}, {}]


def test_the_default_for_the_audio_of_videos(tmp_path: Path) -> None:
    silent = {"video": "a.mp4", "sound": False, "conversations": ASK}
    path = jsonl(tmp_path / "r.jsonl", {"video": "a.mp4", "conversations": ASK}, silent, {**silent, "sound": None})
    assert [r.kind for r in read_records([path])] == ["video"] * 3
    assert [r.kind for r in read_records([path], sound=True)] == ["av", "video", "av"]
    frames = jsonl(tmp_path / "f.jsonl", {"video": ["1.jpg", "2.jpg"], "conversations": ASK})
    assert read_records([frames], sound=True)[0].kind == "video"


def test_tags_are_moved_to_the_front(tmp_path: Path) -> None:
    turns = [*ASK, {"from": "human", "value": "And now, here: <video>"}, ASK[1]]
    said = [turn["value"] for turn in one(tmp_path, video="a.mp4", conversations=turns).conversation]
    assert said == ["What is it?", "A kite.", "<video>\nAnd now, here:", "A kite."]
    talk = [{"from": "human", "value": "What does the <video> tag of HTML do?"}, ASK[1]]
    assert one(tmp_path, conversations=talk).conversation == tuple(talk)


def test_messages_are_conversations(tmp_path: Path) -> None:
    messages = [{"role": "user", "content": "Hm?"}, {"role": "assistant", "content": "Hm."}]
    for key in ("messages", "conversations"):
        path = jsonl(tmp_path / "m.jsonl", {key: messages})
        assert read_records([path])[0].conversation == (
            {"from": "human", "value": "Hm?"},
            {"from": "gpt", "value": "Hm."},
        )


def test_records_make_examples(tmp_path: Path) -> None:
    for keys in ({"video": "a.mp4", "sound": True}, {"image": "a.png"}, {"audio": "a.wav"}, {}):
        record = one(tmp_path, **keys)
        example = chat_example(record.conversation, tiny.tokenizer(), record.modality)
        assert example.slots == (() if record.modality is None else (record.modality,))


# ── formats ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_json_list_and_media_root(tmp_path: Path) -> None:
    path = tmp_path / "train.json"
    records = [{"id": 7, "video": "c/a.mp4", "source": "x", "conversations": ASK}, {"conversations": ASK}]
    path.write_text("\ufeff" + json.dumps(records), encoding="utf-8")
    first, second = read_records([path])
    assert (first.id, first.origin, first.paths) == ("7", "train.json:1", (f"{tmp_path}/c/a.mp4",))
    assert (second.id, second.origin, second.kind) == ("2", "train.json:2", "text")
    assert read_records([str(path)], media_root=Path("/m"))[0].paths == ("/m/c/a.mp4",)


def test_jsonl_counts_its_blank_lines(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(f"\n{json.dumps({'conversations': ASK})}\r\n\n{json.dumps({'conversations': ASK})}", "utf-8")
    assert [r.origin for r in read_records([path])] == ["a.jsonl:2", "a.jsonl:4"]


@pytest.mark.parametrize("as_text", [False, True])
def test_parquet(tmp_path: Path, as_text: bool) -> None:
    import pyarrow
    import pyarrow.parquet

    path = tmp_path / "a.parquet"
    rows = [
        {"id": 3, "video": "a.mp4", "image": None, "sound": True, "start": 0.5, "conversations": ASK},
        {"id": 4, "video": None, "image": "a.png", "sound": None, "start": None, "conversations": ASK},
    ]
    if as_text:
        rows = [{**row, "conversations": json.dumps(row["conversations"])} for row in rows]
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    first, second = read_records([path])
    assert (first.id, first.kind, first.origin) == ("3", "av", "a.parquet:1")
    assert first.media is not None and first.media.start == 0.5
    assert second.kind == "image" and second.conversation[1] == ASK[1]


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_a_sheet_of_questions(tmp_path: Path, delimiter: str) -> None:
    path = tmp_path / "qa.csv"
    rows = [
        ["Video", "question", "answer", "sound", "start", "end"],
        ["a.mp4", '"Who, and\nwhy; tell?"', "Ann", "yes", "1.5", "3"],
        ["a.mp4", "When?", "Now", "", "", ""],
        [""] * 6,
        ["", "What is 1+1?", "2", "", "", ""],
    ]
    path.write_text("\ufeff" + "\r\n".join(delimiter.join(row) for row in rows), encoding="utf-8")
    first, second, third = read_records([path])
    assert first.conversation[0]["value"] == "<video>\nWho, and\nwhy; tell?"
    assert (first.kind, second.kind, third.kind) == ("av", "video", "text")
    assert first.media is not None and (first.media.start, first.media.end) == (1.5, 3.0)
    assert len({first.origin, second.origin, third.origin}) == 3


Member = tuple[str, bytes] | tarfile.TarInfo


def tar(path: Path, *members: Member) -> Path:
    with tarfile.open(path, "w") as out:
        for member in members:
            info = member if isinstance(member, tarfile.TarInfo) else tarfile.TarInfo(member[0])
            data = b"" if isinstance(member, tarfile.TarInfo) else member[1]
            if not isinstance(member, tarfile.TarInfo):
                info.size = len(data)
            out.addfile(info, io.BytesIO(data))
    return path


def raw(**keys: Any) -> bytes:
    return json.dumps({"conversations": ASK, **keys}).encode()


def test_shards(tmp_path: Path) -> None:
    shard = tar(
        tmp_path / "s.tar",
        ("./a/1.json", raw(id="x", sound=True)), ("./a/1.mp4", b"film"),
        ("a/2.wav", b"hum"), ("a/2.json", raw(audio="elsewhere/2.wav")),
        ("3.json", raw(video=["3.0.jpg", "3.1.jpg"])), ("3.1.jpg", b"one"), ("3.0.jpg", b"zero"),
        ("4.json", raw()),
    )  # fmt: skip
    records = read_records([shard])
    assert [r.kind for r in records] == ["av", "audio", "video", "text"]
    assert [r.origin for r in records] == ["s.tar:a/1", "s.tar:a/2", "s.tar:3", "s.tar:4"]
    assert [[Path(p).read_bytes() for p in r.paths] for r in records] == [[b"film"], [b"hum"], [b"zero", b"one"], []]
    assert not missing_media(records)
    assert Path(records[0].paths[0]).is_relative_to(tmp_path / "s.tar.media")

    elsewhere = read_records([shard], cache=tmp_path / "cache")
    assert Path(elsewhere[0].paths[0]).is_relative_to(tmp_path / "cache") and not missing_media(elsewhere)
    tar(shard, ("1.json", raw()), ("1.mp4", b"another"))
    assert Path(read_records([shard])[0].paths[0]).read_bytes() == b"another"
    assert not (tmp_path / "s.tar.media" / "a").exists(), "what was unpacked from the old shard is gone"


def odd(name: str, kind: bytes, link: str = "", size: int = 0) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.size = kind, link, size
    return info


@pytest.mark.parametrize(
    ("member", "words"),
    [
        (("../1.mp4", b"x"), "has an unsafe name"),
        (("a/../../1.mp4", b"x"), "has an unsafe name"),
        (("/1.mp4", b"x"), "has an unsafe name"),
        (("a\\1.mp4", b"x"), "has an unsafe name"),
        (odd("1.mp4", tarfile.SYMTYPE, "/etc/passwd"), "not a regular file"),
        (odd("1.mp4", tarfile.LNKTYPE, "../../x"), "not a regular file"),
        (odd("1.mp4", tarfile.CHRTYPE), "not a regular file"),
        (odd("1.mp4", tarfile.FIFOTYPE), "not a regular file"),
        (("1.pickle", b"x"), "neither a record"),
        (("1.json", raw()), "twice"),
    ],
)
def test_hostile_shards_are_rejected_whole(tmp_path: Path, member: Member, words: str) -> None:
    (tmp_path / "in").mkdir()
    shard = tar(tmp_path / "in" / "s.tar", ("0.json", raw()), ("0.mp4", b"ok"), ("1.json", raw()), member)
    with pytest.raises(DataError, match=words):
        read_records([shard])
    assert [p.name for p in tmp_path.rglob("*")] == ["in", "s.tar"], "nothing was unpacked"


@pytest.mark.parametrize("size", [1 << 20, 1 << 40])
def test_false_sizes(tmp_path: Path, size: int) -> None:
    path = tmp_path / "s.tar"
    info = tarfile.TarInfo("1.mp4")
    info.size = size
    path.write_bytes(info.tobuf(tarfile.GNU_FORMAT) + b"\0" * 4096)
    with pytest.raises(DataError):
        read_records([path])


def test_processes_unpack_one_shard_at_the_same_time(tmp_path: Path) -> None:
    """As those of one run do: one must not take what another has just made for an older shard's, and delete it."""
    context = multiprocessing.get_context("fork")
    shard = tmp_path / "s.tar"
    for trial in range(8):  # every one but the first finds the folder of the shard before
        tar(
            shard,
            *((f"{k}.{x}", raw() if x == "json" else b"x" * 999) for k in range(trial + 9) for x in ("json", "mp4")),
        )
        ready, found = context.Barrier(4), context.Queue()
        processes = [context.Process(target=_unpacked_files, args=(shard, ready, found)) for _ in range(4)]
        for process in processes:
            process.start()
        counts = [found.get(timeout=60) for _ in processes]
        for process in processes:
            process.join()
        assert counts == [trial + 9] * 4
        assert len(list((tmp_path / "s.tar.media").glob("*.mp4"))) == trial + 9


def _unpacked_files(shard: Path, ready: Any, found: Any) -> None:
    ready.wait()
    try:
        found.put(sum(Path(path).is_file() for record in read_records([shard]) for path in record.paths))
    except DataError as error:
        found.put(str(error))


def test_a_folder_that_is_not_the_shards_is_not_touched(tmp_path: Path) -> None:
    shard = tar(tmp_path / "s.tar", ("1.json", raw()), ("1.mp4", b"x"))
    (tmp_path / "s.tar.media").mkdir()
    (tmp_path / "s.tar.media" / "precious").write_text("x", encoding="utf-8")
    with pytest.raises(DataError, match="move it away"):
        read_records([shard])
    assert (tmp_path / "s.tar.media" / "precious").exists()
    other = tar(tmp_path / "t.tar", ("1.json", raw()), ("1.mp4", b"x"))
    (tmp_path / "target").mkdir()
    (tmp_path / "t.tar.media").symlink_to(tmp_path / "target")
    with pytest.raises(DataError, match="move it away"):
        read_records([other])
    assert not list((tmp_path / "target").iterdir())


@pytest.mark.parametrize(
    ("members", "words"),
    [
        ([("1.mp4", b"x")], "has no .json beside it"),
        ([("1.json", b"{")], "invalid JSON"),
        ([("1.json", b"[1]")], "expected an object"),
        ([("1.json", raw(video="1.mp4"))], "has no media member 1"),
        ([("1.json", raw()), ("1.mp4", b"x"), ("1.wav", b"x")], "2 media"),
        ([("1.json", raw(video=["0.jpg"])), ("1.0.jpg", b"x"), ("1.1.jpg", b"x")], "names 0.jpg; the shard has"),
    ],
)
def test_bad_samples(tmp_path: Path, members: list[Member], words: str) -> None:
    with pytest.raises(DataError, match=words) as raised:
        read_records([tar(tmp_path / "s.tar", *members)])
    assert "s.tar, sample 1: " in str(raised.value)


# ── bad records ────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"video": "a.mp4", "image": "a.jpg"}, "it has image and video"),
        ({"video": "a.jpg"}, "'a.jpg' is given as video; expected the key 'image'"),
        ({"video": "a.wav"}, "expected the key 'audio'"),
        ({"image": "a.mp4"}, "expected the key 'video'"),
        ({"audio": "a.png"}, "expected the key 'image'"),
        ({"image": ["a.jpg"]}, "image is a list"),
        ({"video": []}, "empty list"),
        ({"video": ["a.jpg", 3]}, "video is 3"),
        ({"video": {"bytes": "x"}}, "records can't contain media"),
        ({"video": " "}, "expected the path"),
        ({"video": "a\0.mp4"}, "expected the path"),
        ({"video": "https://example.org/a.mp4"}, "URL"),
        ({"vidoe": "a.mp4"}, "unknown key 'vidoe'; did you mean 'video'?"),
        ({"weights": 3}, "unknown key 'weights'"),
        ({"id": [1]}, "id is"),
        ({"id": True}, "id is"),
        ({"video": "a.mp4", "sound": "yes"}, "expected true or false"),
        ({"sound": True}, "there is no video"),
        ({"image": "a.jpg", "sound": True}, "an image has none"),
        ({"video": ["1.jpg"], "sound": True}, "a list of frames has none"),
        ({"audio": "a.wav", "sound": False}, "sound is false"),
        ({"video": "a.mp4", "start": -1}, "start is -1"),
        ({"video": "a.mp4", "start": "0:01"}, "expected seconds"),
        ({"video": "a.mp4", "end": float("nan")}, "end is nan"),
        ({"video": "a.mp4", "end": 10**400}, "end is 1000"),
        ({"video": "a.mp4", "end": 1e300}, "expected seconds"),
        ({"video": "a.mp4", "start": 2, "end": 2}, "from 2 to 2 s is empty"),
        ({"video": "a.mp4", "end": 0}, "is empty"),
        ({"image": "a.jpg", "start": 1}, "given for image"),
        ({"video": ["1.jpg"], "end": 1}, "a list of frames"),
        ({"video": "a.mp4", "audio_track": 0}, "audio_track is 0; expected a track's number from 1, or its language."),
        ({"video": "a.mp4", "video_track": True}, "video_track is True"),
        ({"video": "a.mp4", "audio_track": " "}, "audio_track is ' '"),
        ({"audio": "a.mp4", "video_track": 1}, "video_track is given for audio"),
        ({"image": "a.jpg", "audio_track": 1}, "audio_track is given for image"),
        ({"video": ["1.jpg"], "video_track": 1}, "given for a list of frames"),
        ({"audio_track": 1}, "there is no media file"),
        ({"conversations": None}, "neither conversations nor messages"),
        ({"conversations": []}, "one or more turns"),
        ({"conversations": "hello"}, "expected a list"),
        ({"conversations": ["hello"]}, "turn 1 has 'hello'"),
        ({"conversations": [{"from": "human", "value": 3}]}, "turn 1: 'value' is 3"),
        ({"conversations": [{"from": "bot", "value": "x"}]}, "turn 1 is from 'bot'"),
        ({"conversations": [{"from": "human", "value": "x", "weight": 0}]}, "from, value, weight"),
        ({"conversations": [ASK[0], {"role": "assistant", "content": "x"}]}, "turn 2 has role, content"),
        ({"conversations": [{"role": "system", "content": "x"}]}, "set by the model"),
        ({"conversations": [{"role": "user", "content": [{"type": "video"}]}]}, "expected text"),
        ({"conversations": [{"from": "human", "value": "\ud800"}]}, "half a character"),
        ({"messages": ASK}, "both conversations and messages"),
        ({"conversations": [ASK[1]], "video": "a.mp4"}, "no turn is from human"),
    ],
)
def test_bad_keys(tmp_path: Path, keys: dict[str, Any], words: str) -> None:
    assert words in complaint(tmp_path, **keys)


@pytest.mark.parametrize(
    ("keys", "said", "words"),
    [
        ({"video": "a.mp4"}, ["<image>\nWhat?", "x"], "the text has <image>, but the record has the key 'video'"),
        ({"image": "a.jpg"}, ["What? <video>", "x"], "the text has <video>"),
        ({}, ["<audio>\nWhat?", "x"], "the text has <audio>, but the record has no media"),
        ({"video": "a.mp4"}, ["<video>\nWhat?", "x", "<video>\nAnd?", "y"], "the turns of human, human"),
        ({"video": "a.mp4"}, ["What?", "<video>"], "the turns of gpt"),
    ],
)
def test_tags_that_do_not_fit(tmp_path: Path, keys: dict[str, Any], said: list[str], words: str) -> None:
    speakers = ["human", "gpt"] * 2
    turns = [{"from": s, "value": v} for s, v in zip(speakers, said, strict=False)]
    assert words in complaint(tmp_path, conversations=turns, **keys)


# ── bad files ──────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.jsonl", b"", "holds no records"),
        ("a.jsonl", b"\n \n", "holds no records"),
        ("a.json", b"", "holds no records"),
        ("a.json", b"[]", "holds no records"),
        ("a.json", b'{"id": 1}', "holds an object"),
        ("a.json", b"3", "expected a list of records"),
        ("a.json", b'[\n{"id": }]', "line 2, column 8"),
        ("a.json", b"[" * 100_000, "a.json"),
        ("a.json", b"[\n\xff]", "line 2: not UTF-8"),
        ("a.json", b"[1]", "a.json, record 1: it is 1; expected an object"),
        ("a.jsonl", b'{"id": }', "a.jsonl, line 1: column 8: invalid JSON"),
        ("a.jsonl", b"\xff", "line 1: byte 1: not UTF-8"),
        ("a.jsonl", b"[" * 100_000, "line 1: "),
        ("a.csv", b"", "holds no records"),
        ("a.csv", b"video,question\n", "expected the columns"),
        ("a.csv", b"video,question,answer,colour\n", "unknown: 'colour'"),
        ("a.csv", b"question,question,answer\n", "twice: question"),
        ("a.csv", b"question,answer\nx\n", "line 2: expected 2 cells, as in the first line, got 1"),
        ("a.csv", b"question,answer\nx,\n", "line 2: the answer is empty"),
        ("a.csv", b"video,question,answer,start\na.mp4,x,y,soon\n", "line 2: start is 'soon'"),
        ("a.csv", b"video,question,answer,sound\na.mp4,x,y,loud\n", "line 2: sound is 'loud'"),
        ("a.csv", b'question,answer\n"x,y\n', "invalid CSV"),
        ("a.csv", b"question,answer\nJos\xe9,y\n", "line 2: not UTF-8 text. Save the sheet"),
        ("a.parquet", b"nonsense", "unreadable Parquet"),
        ("a.tar", b"nonsense" * 200, "as a tar"),
        ("a.tar", b"", "a.tar"),
        ("a.xlsx", b"PK", "Save the sheet as CSV"),
        ("a.txt", b"x", "expected one of .json"),
    ],
)
def test_bad_files(tmp_path: Path, name: str, content: bytes, words: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError) as raised:
        read_records([tmp_path / name])
    assert words in str(raised.value) and str(tmp_path / name) in str(raised.value)


def test_no_files_and_missing_files(tmp_path: Path) -> None:
    for paths in ([], [tmp_path / "none.jsonl"], [tmp_path]):
        with pytest.raises(DataError):
            read_records(paths)


def test_a_repeated_key_is_an_error(tmp_path: Path) -> None:
    """JSON would keep the last, and the other medium or answer would be lost without a word."""
    said = json.dumps(ASK)
    media = f'{{"video": "a.mp4", "video": "b.mp4", "conversations": {said}}}'
    answers = '{"conversations": [{"from": "human", "value": "?"}, {"from": "gpt", "value": "a", "value": "b"}]}'
    notes = f'{{"metadata": {{"x": 1, "x": 2}}, "conversations": {said}}}'
    bad: list[str] = []
    for name, content in (
        ("a.jsonl", "\n".join([media, answers, notes])),
        ("a.json", f"[{media}, {answers}, {notes}]"),
    ):
        (tmp_path / name).write_text(content)
        assert len(read_records([tmp_path / name], on_bad=lambda origin, why: bad.append(why))) == 1
    tar(tmp_path / "a.tar", ("1.json", media.encode()))
    assert not read_records([tmp_path / "a.tar"], on_bad=lambda origin, why: bad.append(why))
    first, second = "it has the key 'video' twice", "turn 2: it has the key 'value' twice"
    assert [why.partition(";")[0] for why in bad] == [first, second, first, second, first]


def test_bad_records_can_be_dropped(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    good = json.dumps({"conversations": ASK})
    path.write_text(f"{good}\n{{\n{good}\n[]\n{json.dumps({'id': 1})}\n", encoding="utf-8")
    bad: list[tuple[str, str]] = []
    note: Callable[[str, str], None] = lambda origin, why: bad.append((origin, why))  # noqa: E731
    assert [r.origin for r in read_records([path], on_bad=note)] == ["a.jsonl:1", "a.jsonl:3"]
    assert [origin for origin, _ in bad] == ["a.jsonl:2", "a.jsonl:4", "a.jsonl:5"]


def test_origins_are_unique(tmp_path: Path) -> None:
    paths = []
    for folder in ("x", "y"):
        (tmp_path / folder).mkdir()
        paths.append(jsonl(tmp_path / folder / "a.jsonl", *[{"id": "same", "conversations": ASK}] * 2))
    records = read_records(paths)
    assert [r.origin for r in records] == ["x/a.jsonl:1", "x/a.jsonl:2", "y/a.jsonl:1", "y/a.jsonl:2"]
    with pytest.raises(DataError, match="given twice"):
        read_records([paths[0], paths[0]])


def test_missing_media(tmp_path: Path) -> None:
    (tmp_path / "there.mp4").write_bytes(b"x")
    path = jsonl(
        tmp_path / "a.jsonl",
        {"video": "there.mp4", "conversations": ASK},
        {"video": "gone.mp4", "conversations": ASK},
        {"video": ["there.mp4", "n" * 5000], "conversations": ASK},
    )
    assert missing_media(read_records([path])) == [
        ("a.jsonl:2", f"{tmp_path}/gone.mp4"),
        ("a.jsonl:3", f"{tmp_path}/{'n' * 5000}"),
    ]
