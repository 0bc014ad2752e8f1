"""Training sets: each from a miniature in its official form, its manifest, subsets, media in folders and shards."""

import json
import tarfile
from pathlib import Path
from typing import Any

import pytest

from videollama2 import cli
from videollama2.data.records import read_records
from videollama2.data.sets.build import build_set
from videollama2.data.sets.fetch_list import write_fetch_list
from videollama2.data.sets.finding import sources_of
from videollama2.data.sets.registry import training_set, training_sets
from videollama2.errors import DataError, UsageError

from ..parity.recorded import OFFICIAL
from .set_miniatures import MINIATURES, Miniature, said, table
from .set_variants import VARIANTS


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_every_set_has_its_miniature() -> None:
    assert set(MINIATURES) == set(training_sets())


@pytest.mark.parametrize("name", MINIATURES)
def test_the_official_form(name: str, tmp_path: Path) -> None:
    """The records, what was dropped and why, and what is missing; training reads the file."""
    miniature, each = MINIATURES[name], training_set(name)
    folder = miniature.write(tmp_path / "data")
    manifest = build_set(each, folder, [], tmp_path / "sets", share=1.0)
    built = read_records([tmp_path / "sets" / name / "records.jsonl"])
    assert len(built) == len(miniature.records)
    for record, (file, question, answer) in zip(built, miniature.records, strict=True):
        asked = record.conversation[0]["value"].partition(">\n")[2] if record.media else record.conversation[0]["value"]
        assert question in ("*", "scene", asked) and record.conversation[1]["value"] == answer
        if question == "*":
            assert asked in each.prompts
        if question == "scene":
            assert "\n(C) cafe or restaurant\n" in asked
        assert (record.paths == ()) if file is None else record.paths[0].endswith(f"/{file}")
        assert record.kind == (each.kind if record.media else "text")
    ranges = {(record.media.start, record.media.end) for record in built if record.media}
    assert miniature.times is None or miniature.times in ranges
    assert manifest["dropped"] == miniature.dropped and manifest["missing_media"] == miniature.missing
    counted = manifest["kept"] + manifest["missing_media"] + manifest["outside_the_share"]
    assert counted == manifest["records"]


@pytest.mark.parametrize("name", ["music-avqa", "next-qa", "wavcaps"])
def test_conversations_of_the_public_scripts(name: str, tmp_path: Path) -> None:
    """Every set reads the form of the public training scripts, under any file name."""
    kind = "audio" if name == "wavcaps" else "video"
    file = "a.wav" if kind == "audio" else "a.mp4"
    record = said(f"What is it?\n<{kind}>", "A duck.", id=3, **{kind: f"/mnt/data/{file}"})
    (tmp_path / "my_train.json").write_text(
        json.dumps([record, {**record, "conversations": record["conversations"][1:]}])
    )
    (tmp_path / file).touch()
    manifest = build_set(training_set(name), tmp_path, [], tmp_path / "sets")
    (line,) = lines(tmp_path / "sets" / name / "records.jsonl")
    assert line["conversations"] == said("What is it?", "A duck.")["conversations"]
    assert manifest["dropped"] == {"no answer": 1}


def test_videochat2_lists_are_read_for_the_sets_they_are_made_of(tmp_path: Path) -> None:
    (tmp_path / "k710").mkdir()
    rows = [{"video": "k400/a.mp4", "QA": [{"i": "Watch.", "q": "What?\nOptions: (A) run", "a": "(A) run"}]}]
    (tmp_path / "k710" / "train.json").write_text(json.dumps(rows))
    (tmp_path / "a.mp4").touch()
    build_set(training_set("kinetics-710"), tmp_path, [], tmp_path / "sets")
    (line,) = lines(tmp_path / "sets" / "kinetics-710" / "records.jsonl")
    assert line["conversations"][0]["value"] == "Watch.\nWhat?\nOptions: (A) run"


@pytest.mark.parametrize(("name", "annotations", "media", "expected"), VARIANTS)
def test_what_people_have(
    name: str, annotations: dict[str, Any], media: str, expected: tuple[str, str], tmp_path: Path
) -> None:
    """Other copies of the official files, and media as downloaders name them."""
    folder = Miniature(annotations, (media,), ()).write(tmp_path / "data")
    manifest = build_set(training_set(name), folder, [], tmp_path / "sets", share=1.0)
    (line,) = lines(tmp_path / "sets" / name / "records.jsonl")
    question, answer = expected
    assert line["conversations"][1]["value"] == answer and not manifest["missing_media"], manifest["dropped"]
    assert question == "*" or line["conversations"][0]["value"] == question
    assert next(line[key] for key in ("video", "audio") if key in line) == f"{folder}/{media}"


def test_lists_that_mix_kinds_give_a_set_its_own(tmp_path: Path) -> None:
    """The public training lists mix images, videos and text; a set of videos is not built from the others."""
    rows = [
        said("What?", "A race.", video="valley/1.mp4"), said("<image>\nWho?", "A cat.", image="llava_image/2.jpg"),
        said("<image>\nWho?", "A cat.", video="images/2.jpg"), said("Hi.", "Hello."),
    ]  # fmt: skip
    folder = Miniature({"valley_llavaimage.json": rows}, ("1.mp4", "2.jpg"), ()).write(tmp_path / "data")
    manifest = build_set(training_set("valley"), folder, [], tmp_path / "sets")
    assert manifest["kept"] == 1
    assert manifest["dropped"] == {"media of another kind (image)": 2, "names no media": 1}
    manifest = build_set(training_set("text-instruct"), folder / "valley_llavaimage.json", [], tmp_path / "sets")
    assert manifest["kept"] == 1 and manifest["missing_media"] == 0


def test_numbers_of_classes_without_their_words_are_an_error(tmp_path: Path) -> None:
    folder = Miniature({"k710/train.csv": "k600/a.mp4 1\n"}, ("a.mp4",), ()).write(tmp_path)
    with pytest.raises(
        DataError, match=r"has numbers of classes; expected their words beside it, in \*label_map\*k710"
    ):
        build_set(training_set("kinetics-710"), folder, [], tmp_path / "sets")


def test_of_several_files_of_other_names_none_is_chosen(tmp_path: Path) -> None:
    rows = [said("What?", "A race.", video="1.mp4")]
    folder = Miniature({"a.json": rows, "deep/b.json": rows, "test/c.json": rows}, ("1.mp4",), ()).write(tmp_path / "d")
    with pytest.raises(DataError, match=r"several files in .* could be it: a.json, deep/b.json. Give one"):
        build_set(training_set("hm3d"), folder, [], tmp_path / "sets")
    (folder / "a.json").unlink()
    (source,) = sources_of(training_set("hm3d"), folder)
    assert source.path.name == "b.json"


@pytest.mark.parametrize(
    "names",
    [
        ("default/train/0000.parquet", "default/train/0001.parquet"),
        ("data/train-00000-of-00002-60e50ff5fbbd1bb5.parquet", "data/train-00001-of-00002-0a1b2c3d4e5f6789.parquet"),
        ("q.parquet/part-00000-3e1b-c000.snappy.parquet", "q.parquet/part-00001-3e1b-c000.snappy.parquet"),
    ],
)
def test_all_parts_of_a_parquet_copy_are_read_without_its_test_split(names: tuple[str, str], tmp_path: Path) -> None:
    rows = [
        {"video_name": f"v{k}", "question_text": "Who?", "multi_choice": ["a", "b"], "answer": 1, "clip": b"0" * 10}
        for k in range(2)
    ]
    files = {name: [row] for name, row in zip(names, rows, strict=True)} | {"default/test/0000.parquet": rows}
    folder = Miniature(files, ("v0.mp4", "v1.mp4"), ()).write(tmp_path / "data")
    manifest = build_set(training_set("avqa"), folder, [], tmp_path / "sets")
    assert manifest["kept"] == 2 and [each["file"] for each in manifest["annotations"]] == [
        Path(name).name for name in names
    ]


def test_parts_of_one_list_are_all_read_and_counted_once(tmp_path: Path) -> None:
    head = ("videoid", "contentUrl", "duration", "page_dir", "name")
    parts = {
        f"webvid-10M/data/train/partitions/{k:04}.csv": table(head, (k, "https://a.example/v.mp4", "", "", "A pier"))
        for k in range(3)
    }
    folder = Miniature(parts, ("0.mp4", "1.mp4", "2.mp4"), ()).write(tmp_path / "data")
    each = training_set("webvid-10m")
    assert build_set(each, folder, [], tmp_path / "sets", share=1.0)["kept"] == 3
    assert each.fraction(sources_of(each, folder)) == pytest.approx(4_000_000 / 10_727_607)


def test_a_name_that_several_sets_use_is_decided_by_content(tmp_path: Path) -> None:
    files = {
        "a/train.csv": table(("label", "youtube_id"), ("x", "y")),
        "b/train.csv": table(("audiocap_id", "youtube_id", "start_time", "caption"), (1, "v", 0, "Rain")),
    }
    folder = Miniature(files, ("v.wav",), ()).write(tmp_path / "next_qa")
    assert [source.path.parent.name for source in sources_of(training_set("audiocaps"), folder)] == ["b"]


@pytest.mark.parametrize("answer", ["7", "", "purple", "F"])
def test_an_answer_that_is_no_option_is_dropped(answer: str, tmp_path: Path) -> None:
    head = ("video", "question", "answer", "qid", "type", *(f"a{k}" for k in range(5)))
    files = {"train.csv": table(head, (1, "why", answer, 5, "CW", "a red", "b", "c", "d", "e"))}
    folder = Miniature(files, ("1.mp4",), ()).write(tmp_path / "data")
    manifest = build_set(training_set("next-qa"), folder, [], tmp_path / "sets")
    assert manifest["dropped"] == {"malformed row": 1} and not manifest["kept"]


def captions(folder: Path, count: int) -> Path:
    """An AudioCaps list of `count` sounds, which exist."""
    folder.mkdir(parents=True)
    header = ("audiocap_id", "youtube_id", "start_time", "caption")
    rows = [(k, f"v{k}", 0, f"caption {k}") for k in range(count)]
    (folder / "train.csv").write_text(table(header, *rows))
    for k in range(count):
        (folder / f"v{k}.wav").touch()
    return folder


def test_a_share_depends_on_the_seed_and_the_id_alone(tmp_path: Path) -> None:
    folder = captions(tmp_path / "data", 300)
    each = training_set("audiocaps")

    def ids(name: str, **how: Any) -> list[str]:
        manifest = build_set(each, folder, [], tmp_path / name, share=0.3, **how)
        assert manifest["kept"] + manifest["outside_the_share"] == 300
        return [line["id"] for line in lines(tmp_path / name / "audiocaps" / "records.jsonl")]

    first = ids("a")
    assert 60 < len(first) < 120 and first == ids("b") and first != ids("c", seed=1)
    (folder / f"v{first[0]}.wav").unlink()
    header, *rows = (folder / "train.csv").read_text().splitlines()
    (folder / "train.csv").write_text("\n".join([header, *reversed(rows)]) + "\n")
    manifest = build_set(each, folder, [], tmp_path / "d", share=0.3)
    left = {line["id"] for line in lines(tmp_path / "d" / "audiocaps" / "records.jsonl")}
    assert left == set(first[1:]) and manifest["missing_media"] == 1


def test_the_papers_share_is_of_the_published_number(tmp_path: Path) -> None:
    each = training_set("panda-70m")
    (tmp_path / "panda70m_training_full.csv").write_text("videoID,timestamp,caption\na,[],[]\n")
    assert each.fraction(sources_of(each, tmp_path)) == pytest.approx(2_800_000 / 70_723_513)
    (tmp_path / "panda70m_training_full.csv").rename(tmp_path / "panda70m_training_2m.csv")
    assert each.fraction(sources_of(each, tmp_path)) == 1.0  # the paper used more than it has


def shard(path: Path, members: dict[str, bytes]) -> None:
    with tarfile.open(path, "w") as tar:
        for name, content in members.items():
            part = path.with_name(name.replace("/", "_"))
            part.write_bytes(content)
            tar.add(part, name)
            part.unlink()


def test_media_in_shards_are_found_by_stem_and_by_the_json_beside_them(tmp_path: Path) -> None:
    folder = captions(tmp_path / "data", 3)
    for k in range(3):
        (folder / f"v{k}.wav").unlink()
    shard(folder / "00000.tar", {
        "v0.wav": b"sound", "00017.json": b'{"name": "v1", "caption": "not a name"}', "00017.wav": b"other",
    })  # fmt: skip
    manifest = build_set(training_set("audiocaps"), folder, [], tmp_path / "sets")
    built = lines(tmp_path / "sets" / "audiocaps" / "records.jsonl")
    assert [Path(line["audio"]).name for line in built] == ["v0.wav", "00017.wav"] and manifest["missing_media"] == 1
    assert built[0]["audio"] == f"{folder}/00000.tar/v0.wav"


def test_links_among_media(tmp_path: Path) -> None:
    """Linked files and folders are found, each once; a link to nothing is no file, and a loop ends."""
    folder = captions(tmp_path / "data", 3)
    (tmp_path / "far").mkdir()
    (folder / "v0.wav").rename(tmp_path / "far" / "v0.wav")
    (folder / "linked").symlink_to(tmp_path / "far")
    (folder / "linked again").symlink_to(tmp_path / "far")
    (folder / "loop").symlink_to(folder)
    (folder / "v1.wav").unlink()
    (folder / "v1.wav").symlink_to(tmp_path / "gone.wav")
    manifest = build_set(training_set("audiocaps"), folder, [], tmp_path / "sets")
    built = lines(tmp_path / "sets" / "audiocaps" / "records.jsonl")
    assert [line["audio"] for line in built] == [f"{folder}/linked/v0.wav", f"{folder}/v2.wav"]
    assert manifest["missing_media"] == 1


def test_a_damaged_shard_or_a_missing_folder_is_an_error(tmp_path: Path) -> None:
    folder = captions(tmp_path / "data", 1)
    (folder / "00000.tar").write_bytes(b"no tar at all" * 100)
    with pytest.raises(DataError, match=r"00000.tar can't be read as a tar"):
        build_set(training_set("audiocaps"), folder, [], tmp_path / "sets")
    with pytest.raises(DataError, match="not found; expected a folder of media"):
        build_set(training_set("audiocaps"), folder, [tmp_path / "gone"], tmp_path / "sets")


def test_files_for_evaluation_are_read_only_if_they_are_given(tmp_path: Path) -> None:
    miniature = MINIATURES["music-avqa"]
    folder = miniature.write(tmp_path)
    train = folder / "data" / "json_update" / "avqa-train.json"
    test = train.rename(train.with_name("avqa-test.json"))
    with pytest.raises(
        DataError, match=r"expected json_update/avqa-train.json .*; found avqa-test.json. Give the file"
    ):
        build_set(training_set("music-avqa"), folder, [], tmp_path / "sets")
    manifest = build_set(training_set("music-avqa"), test, [folder], tmp_path / "sets")
    assert manifest["held_out"] == ["avqa-test.json"] and manifest["kept"] == 1


def test_a_given_file_is_joined_to_those_of_its_split(tmp_path: Path) -> None:
    files = {name.replace("train", "val"): rows for name, rows in MINIATURES["activitynet-qa"].files.items()}
    folder = Miniature(files, MINIATURES["activitynet-qa"].media, ()).write(tmp_path)
    manifest = build_set(training_set("activitynet-qa"), folder / "dataset" / "val_q.json", [folder], tmp_path / "sets")
    assert manifest["kept"] == 1 and [each["file"] for each in manifest["annotations"]] == ["val_q.json", "val_a.json"]
    assert manifest["held_out"] == ["val_q.json", "val_a.json"]


def test_of_files_of_one_name_the_sets_own_is_read(tmp_path: Path) -> None:
    """A folder with the annotations of several sets, in which three are called train.csv."""
    for name in ("audiocaps", "next-qa", "kinetics-710", "tgif-qa"):
        files = {f"{name[0]}/{Path(file).name}": content for file, content in MINIATURES[name].files.items()}
        Miniature(files, MINIATURES[name].media, ()).write(tmp_path)
    (tmp_path / "t" / "Test_frameqa_question.csv").write_text(
        (tmp_path / "t" / "Train_frameqa_question.csv").read_text()
    )
    for name in ("audiocaps", "next-qa", "kinetics-710", "tgif-qa"):
        manifest = build_set(training_set(name), tmp_path, [], tmp_path / "sets", share=1.0)
        assert manifest["kept"] == len(MINIATURES[name].records) and not manifest["dropped"].get("malformed row")


def test_fetch_lists(tmp_path: Path) -> None:
    miniature = MINIATURES["panda-70m"]
    folder = Miniature(miniature.files, (), ()).write(tmp_path / "data")
    for path in folder.rglob("0000000_00001.json"):
        path.unlink()
    build_set(training_set("panda-70m"), folder, [], tmp_path / "sets")
    built, made = tmp_path / "sets" / "panda-70m", tmp_path / "lists"
    assert write_fetch_list(built, "video2dataset", made / "v.json") == (2, 0)
    url = "https://www.youtube.com/watch?v=abc"
    first, second = json.loads((made / "v.json").read_text())
    assert first == {"url": url, "clips": [[1.0, 5.5], [9.0, 62.5]], "name": "abc_00000"}
    assert second["clips"] == [[1.0, 5.5]]
    assert write_fetch_list(built, "yt-dlp", made / "y.txt") == (2, 0)  # two clips of one video
    assert (made / "y.txt").read_text() == f"{url}\nhttps://www.youtube.com/watch?v=gone\n"
    assert sorted(path.name for path in made.iterdir()) == ["v.json", "y.txt"]
    with pytest.raises(UsageError, match="holds no built set"):
        write_fetch_list(tmp_path, "names", made / "n.txt")


def missing(folder: Path, *clips: tuple[float | None, float | None]) -> Path:
    """A built set that misses these clips of one video."""
    lines = [
        {
            "id": str(k),
            "names": [f"v_{k}"],
            "url": "u",
            **{n: t for n, t in zip(("start", "end"), clip, strict=True) if t},
        }
        for k, clip in enumerate(clips)
    ]
    folder.mkdir()
    (folder / "missing.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def test_what_video2dataset_can_cut(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It cuts an entry's clips in one pass, so they mustn't overlap, and all entries need the same columns."""
    built, out = missing(tmp_path / "a", (5.0, 9.0), (1.0, 6.0), (6.0, 7.0), (9.0, 12.0)), tmp_path / "my list.json"
    assert cli.main(["data", "fetch-list", str(built), "--for", "video2dataset", "-o", str(out)]) == 0
    entries = json.loads(out.read_text())
    assert [(entry["clips"], entry["name"]) for entry in entries] == [
        ([[1.0, 6.0], [6.0, 7.0], [9.0, 12.0]], "v_1"), ([[5.0, 9.0]], "v_0"),
    ]  # fmt: skip
    printed = capsys.readouterr().out
    then = f"video2dataset --url_list '{out}' --input_format json --clip_col clips --save_additional_columns"
    assert f"2 media to fetch\nthen: {then}" in printed
    for number, whole in enumerate([(None, None), (3.0, None)]):
        built = missing(tmp_path / f"b{number}", (5.0, 9.0), whole)
        assert write_fetch_list(built, "video2dataset", out) == (1, 0)
        assert [set(entry) for entry in json.loads(out.read_text())] == [{"url", "name"}]


def test_what_a_downloader_stored_is_found_by_its_address(tmp_path: Path) -> None:
    folder = Miniature(MINIATURES["webvid-10m"].files, (), ()).write(tmp_path / "data")
    (folder / "00000").mkdir()
    (folder / "00000" / "000000000.mp4").touch()
    (folder / "00000" / "000000000.json").write_text('{"url": "https://ak.example.com/a.mp4", "key": "000000000"}')
    assert build_set(training_set("webvid-10m"), folder, [], tmp_path / "sets", share=1.0)["kept"] == 1


def test_media_without_addresses_are_counted(tmp_path: Path) -> None:
    folder = Miniature(MINIATURES["music-avqa"].files, (), ()).write(tmp_path / "data")
    build_set(training_set("music-avqa"), folder, [], tmp_path / "sets")
    assert write_fetch_list(tmp_path / "sets" / "music-avqa", "img2dataset", tmp_path / "i.csv") == (0, 1)
    assert write_fetch_list(tmp_path / "sets" / "music-avqa", "names", tmp_path / "n.txt") == (1, 0)
    assert (tmp_path / "n.txt").read_text() == "00000093\n"


def test_the_commands(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = MINIATURES["music-avqa"].write(tmp_path / "data")
    argv = ["data", "build", "music-avqa", "--annotations", str(folder), "--output", str(tmp_path / "sets")]
    assert cli.main(argv) == 0
    out = capsys.readouterr().out
    assert "music-avqa: 1 records\n  read 2 rows with 1 records; published are 31,927; the paper used 35,000" in out
    assert "1: malformed row (avqa-train.json:2: templ_values: expected" in out
    assert cli.main(["data", "list", "--sets", str(tmp_path / "sets")]) == 0
    row = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("music-avqa"))
    assert row.split() == ["music-avqa", "AV", "av", "31,927", "35,000", "1", "0"]
    assert cli.main(["data", "list", "hm3d", "music-avqa", "--annotations", str(folder)]) == 3
    assert cli.main(["data", "list", "music-avqa", "--annotations", str(folder)]) == 0
    assert f"found {folder}/data/json_update/avqa-train.json" in capsys.readouterr().out
    assert cli.main(["data", "build", "musik-avqa", *argv[3:]]) == 2
    assert "did you mean 'music-avqa'" in capsys.readouterr().err
    assert cli.main([*argv, "--share", "0"]) == 2
    assert (
        cli.main(
            ["data", "fetch-list", str(tmp_path / "sets" / "music-avqa"), "--for", "names", "-o", str(tmp_path / "n")]
        )
        == 0
    )


@pytest.mark.skipif(not OFFICIAL.is_dir(), reason="no folder at VIDEOLLAMA2_OFFICIAL")
@pytest.mark.parametrize(
    ("name", "file", "records"),
    [
        ("music-avqa", "music-avqa/data/json_update/avqa-test.json", 9_129),
        ("avsd", "avsd-dstc10/*.json", 14_203),
        ("activitynet-qa", "activitynet-qa/dataset/test_q.json", 8_000),
    ],
)
def test_the_official_file(name: str, file: str, records: int, tmp_path: Path) -> None:
    (path,) = OFFICIAL.glob(file)
    manifest = build_set(training_set(name), path, [tmp_path], tmp_path / "sets", share=1.0)
    assert manifest["records"] == records and not manifest["dropped"]


ODD: list[Any] = [
    7, None, "text", [], {}, {"QA": [7]}, {"QA": [], "video": "a"}, {"conversations": [7], "video": "a"},
    {"conversations": {}, "id": 1}, {"id": "x", "meta": [], "conversations": [{"from": "human", "value": "<s0>"}]},
]  # fmt: skip


def with_odd_rows(content: Any) -> Any:
    """A list of records, or an object with one, with rows that are none."""
    if isinstance(content, list):
        return [*content, *ODD]
    return {key: [*value, *ODD] if isinstance(value, list) else value for key, value in content.items()}


@pytest.mark.parametrize(
    ("name", "file"),
    [
        (name, file)
        for name, miniature in MINIATURES.items()
        for file in miniature.files
        # not those that are one record, or are joined to another file
        if file.endswith(".json") and name not in ("dci", "vidal-10m", "panda-70m") and "map" not in file
    ],
)
def test_odd_rows_cost_themselves_alone(name: str, file: str, tmp_path: Path) -> None:
    miniature = MINIATURES[name]
    files = {**miniature.files, file: with_odd_rows(miniature.files[file])}
    folder = Miniature(files, miniature.media, ()).write(tmp_path / "data")
    manifest = build_set(training_set(name), folder, [], tmp_path / "sets", share=1.0)
    assert manifest["kept"] == len(miniature.records)
