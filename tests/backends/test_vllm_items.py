"""The parts of the vLLM plugin that need no vLLM: versions, options, keys of media."""

import re
import tomllib
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest

from videollama2.backends.vllm.items import RequestOptions, ServedMedia, checked_part, served_media
from videollama2.backends.vllm.plugin import RANGE, register_with_vllm, unsupported
from videollama2.engine import Engine
from videollama2.errors import UsageError

ROOT = Path(__file__).parents[2]


def test_vllm_finds_the_plugin() -> None:
    """An environment with only the source on its path has no entry points, so the file that declares them is read."""
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["entry-points"]
    point = EntryPoint("videollama2", declared["vllm.general_plugins"]["videollama2"], "vllm.general_plugins")
    assert point.load() is register_with_vllm


@pytest.mark.parametrize("version", ["0.32.0", "0.33.0", "0.33.1.dev5+cpu"])
def test_supported_versions(version: str) -> None:
    assert unsupported(version) is None


@pytest.mark.parametrize("version", ["0.31.9", "0.34.0", "1.0.0", "0.29.0+cu130", "dev", ""])
def test_another_version_is_named_with_the_range(version: str) -> None:
    problem = unsupported(version)
    assert problem is not None
    assert RANGE in problem
    assert problem.startswith(f"vLLM {version} is installed")


def test_options_by_their_old_names() -> None:
    assert RequestOptions.read({"use_audio_in_video": False, "strict": True, "num_frames": None}) == RequestOptions(
        sound=False, strict=True
    )


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"strikt": True}, "did you mean 'strict'?"),
        ({"strict": 1}, "strict=1; expected true or false"),
        ({"num_frames": 0}, "num_frames=0; expected an integer of 1 or more"),
        ({"protocol": "fulll"}, "unknown protocol 'fulll'; did you mean 'full'?"),
    ],
)
def test_wrong_options(given: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=re.escape(words)):
        RequestOptions.read(given)


@pytest.mark.parametrize(
    ("kind", "part", "words"),
    [
        ("video", {"start": -1}, "start=-1; expected seconds"),
        ("video", {"start": 2, "end": 1}, "start=2, end=1; expected start before end"),
        ("video", {"num_frames": True}, "num_frames=True; expected an integer"),
        ("audio", {"sound": False}, "sound does not apply to audio"),
        ("image", {"num_frames": 4}, "num_frames does not apply to image"),
    ],
)
def test_wrong_parts(kind: Any, part: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=re.escape(words)):
        checked_part(kind, part)


def key(item: ServedMedia) -> str:
    return item.key(lambda source: f"hash of {source}", "model")


def test_a_uuid_stands_for_content_alone() -> None:
    """The same uuid for a video and for its audio, or with other options, is another item."""
    asked = RequestOptions()
    items = [
        served_media("video", b"clip", asked, "full", uuid="a"),
        served_media("audio", b"clip", asked, "full", uuid="a"),
        served_media("video", b"clip", asked, "full", uuid="b"),
        served_media("video", b"clip", asked, "released", uuid="a"),
        served_media("video", b"clip", asked, "full", uuid="a", part={"start": 1.0}),
        served_media("video", b"clip", RequestOptions(sound=False), "full", uuid="a"),
        served_media("video", b"clip", RequestOptions(num_frames=3), "full", uuid="a"),
        served_media("video", b"clip", asked, "full"),
    ]
    assert len({key(item) for item in items}) == len(items)


def test_equal_requests_share_a_key() -> None:
    one = served_media("video", b"clip", RequestOptions(), "full", part={"num_frames": 3}, name="media item 2")
    other = served_media("video", b"clip", RequestOptions(num_frames=3), "full")
    assert key(one) == key(other)


def test_a_cached_item_without_media_has_the_key_of_the_one_with_them() -> None:
    asked = RequestOptions(sound=False)
    sent = served_media("video", b"clip", asked, "full", uuid="a", part={"end": 2.0})
    named = served_media("video", None, asked, "full", uuid="a", part={"end": 2.0})
    assert key(sent) == key(named)


def test_neither_media_nor_uuid() -> None:
    with pytest.raises(UsageError, match="neither a source nor a uuid"):
        served_media("video", None, RequestOptions(), "full")


def test_a_uuid_that_is_not_cached(engine: Engine) -> None:
    with pytest.raises(UsageError, match="no media are cached under the uuid 'a'"):
        served_media("video", None, RequestOptions(), "full", uuid="a").decoded(engine.processor)


def test_decoded_as_our_engine_decodes(engine: Engine, media: Path) -> None:
    item = served_media(
        "video", str(media / "clip.mp4"), RequestOptions(), "full", part={"start": 0.5, "num_frames": 3}
    )
    inputs, receipt = item.decoded(engine.processor)
    assert inputs.pixels is not None
    assert inputs.fbank is not None
    assert len(inputs.pixels) == 3
    assert receipt.video is not None
    assert receipt.video.range_seconds == (0.5, 2.0)
    assert receipt.source == "the media item"
