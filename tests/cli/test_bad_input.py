"""Bad input: the engine's error, and the command line's exit code, for each kind."""

import json
import struct
import wave
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

import videollama2
from videollama2 import Engine, cli
from videollama2.errors import (
    CheckpointNotFound,
    ConfigError,
    ContextOverflow,
    EmptyMedia,
    MediaNotFound,
    MediaTooLarge,
    NoAudioStream,
    NoVideoStream,
    NumericsError,
    TensorMismatch,
    TimeRangeError,
    UnreadableMedia,
    UnsupportedModality,
    UsageError,
    VideoLlama2Error,
)

from .. import tiny

Q = "what do you see and hear?"
Make = Callable[[Path, Path], Path]  # folder to write into, folder of good media → the bad medium


def cut(folder: Path, media: Path) -> Path:
    whole = (media / "clip.mp4").read_bytes()
    (folder / "cut.mp4").write_bytes(whole[: len(whole) // 2])
    return folder / "cut.mp4"


def corrupt(folder: Path, media: Path) -> Path:
    (folder / "noise.mp4").write_bytes(np.random.default_rng(0).bytes(5000))
    return folder / "noise.mp4"


def empty(folder: Path, media: Path) -> Path:
    (folder / "empty.mp4").touch()
    return folder / "empty.mp4"


def text(folder: Path, media: Path) -> Path:
    (folder / "notes.mp4").write_text("not a film\n")
    return folder / "notes.mp4"


def playlist(folder: Path, media: Path) -> Path:
    (folder / "list.mp4").write_text(f"#EXTM3U\n#EXTINF:2,\n{media / 'clip.mp4'}\n")
    return folder / "list.mp4"


def no_pictures(folder: Path, media: Path) -> Path:
    (folder / "album").mkdir()
    (folder / "album" / "notes.txt").write_text("nothing")
    return folder / "album"


def empty_folder(folder: Path, media: Path) -> Path:
    (folder / "void").mkdir()
    return folder / "void"


def half_a_picture(folder: Path, media: Path) -> Path:
    (folder / "half.png").write_bytes((media / "still.png").read_bytes()[:60])
    return folder / "half.png"


def huge_picture(folder: Path, media: Path) -> Path:
    """A PNG that claims 100,000 × 100,000 pixels in a few hundred bytes."""
    data = bytearray((media / "still.png").read_bytes())
    data[16:24] = struct.pack(">II", 100_000, 100_000)
    import zlib

    data[29:33] = struct.pack(">I", zlib.crc32(bytes(data[12:29])))
    (folder / "bomb.png").write_bytes(bytes(data))
    return folder / "bomb.png"


def no_samples(folder: Path, media: Path) -> Path:
    return tiny.write_wave(folder / "hush.wav", np.zeros(0, np.float32))


def not_a_number(folder: Path, media: Path) -> Path:
    """A 32-bit float WAV of NaNs."""
    samples = np.full(16000, np.nan, "<f4").tobytes()
    head = (
        b"WAVEfmt " + struct.pack("<IHHIIHH", 16, 3, 1, 16000, 64000, 4, 32) + b"data" + struct.pack("<I", len(samples))
    )
    (folder / "nan.wav").write_bytes(b"RIFF" + struct.pack("<I", len(head) + len(samples)) + head + samples)
    return folder / "nan.wav"


def missing(folder: Path, media: Path) -> Path:
    return folder / "none.mp4"


def good(name: str) -> Make:
    def there(folder: Path, media: Path) -> Path:
        return media / name

    return there


CASES: list[tuple[Make, dict[str, Any], type[VideoLlama2Error]]] = [
    (missing, {}, MediaNotFound),
    (empty, {}, EmptyMedia),
    (cut, {}, UnreadableMedia),
    (corrupt, {}, UnreadableMedia),
    (text, {}, UnreadableMedia),
    (playlist, {}, UnreadableMedia),
    (no_pictures, {}, EmptyMedia),
    (empty_folder, {}, EmptyMedia),
    (half_a_picture, {}, UnreadableMedia),
    (huge_picture, {}, MediaTooLarge),
    (no_samples, {}, EmptyMedia),
    (not_a_number, {}, NumericsError),
    (good("tone.wav"), {"audio": False}, NoVideoStream),
    (good("mute.mp4"), {"video": False}, NoAudioStream),
    (good("still.png"), {"video": False}, NoAudioStream),
    (good("clip.mp4"), {"start": 60.0}, TimeRangeError),
    (good("tone.wav"), {"start": 60.0}, TimeRangeError),
    (good("clip.mp4"), {"start": 1.0, "end": 0.5}, TimeRangeError),
    (good("clip.mp4"), {"num_frames": 1}, VideoLlama2Error),
]
FLAGS = {"audio": "--no-audio", "video": "--no-video", "start": "--start", "end": "--end", "num_frames": "--frames"}


@pytest.mark.parametrize(
    ("make", "kwargs", "error"), CASES, ids=lambda v: getattr(v, "__name__", "-".join(v) if isinstance(v, dict) else "")
)
def test_media(
    make: Make, kwargs: dict[str, Any], error: type[VideoLlama2Error], engine: Engine, tiny_folder: Path, media: Path,
    tmp_path: Path, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    bad = make(tmp_path, media)
    with pytest.raises(error) as caught:
        engine.answer(bad, Q, **kwargs)
    assert "0x" not in str(caught.value), "no address in a message"
    flags = [w for key, value in kwargs.items() for w in ([FLAGS[key]] if value is False else [FLAGS[key], str(value)])]
    code = cli.main(["ask", str(bad), Q, *flags, "--model", str(tiny_folder), "--device", "cpu"])
    out, err = capsys.readouterr()
    assert (code, out) == (caught.value.exit_code, "") and err.startswith("error: ") and "Traceback" not in err
    for session_or_batch in (lambda: engine.open(bad, **kwargs), lambda: engine.batch([(bad, Q)], **kwargs)):
        with pytest.raises(error):
            session_or_batch()
    assert engine.answer(media / "clip.mp4", Q, max_new_tokens=1).text, "and the next good request succeeds"


def test_a_wrong_extension_does_not_matter(engine: Engine, media: Path, tmp_path: Path) -> None:
    for name, wrong in (("clip.mp4", "clip.png"), ("still.png", "still.mp4"), ("tone.wav", "tone.jpg")):
        (tmp_path / wrong).write_bytes((media / name).read_bytes())
        right = engine.answer(media / name, Q, max_new_tokens=8)
        assert engine.answer(tmp_path / wrong, Q, max_new_tokens=8).text == right.text


def test_a_video_of_one_frame(engine: Engine, tmp_path: Path) -> None:
    for name in ("full", "released"):
        clip = tiny.write_clip(tmp_path / "one.mp4", frames=1, sound=np.zeros(0, np.float32))
        seen = engine.answer(clip, Q, max_new_tokens=1, protocol=name).receipt.video
        assert seen is not None and seen.frames_total == 1 and seen.frames_used == 4


def test_neither_video_nor_audio_requested(engine: Engine, media: Path) -> None:
    with pytest.raises(UsageError, match="at least one"):
        engine.answer(media / "clip.mp4", Q, audio=False, video=False)


def test_sound_in_a_container_of_two_channels_and_another_rate(engine: Engine, tmp_path: Path) -> None:
    with wave.open(str(tmp_path / "stereo.wav"), "wb") as out:
        out.setnchannels(2)
        out.setsampwidth(2)
        out.setframerate(44100)
        out.writeframes((np.stack([tiny.tone(1, rate=44100)] * 2, 1) * 30000).astype("<i2").tobytes())
    heard = engine.answer(tmp_path / "stereo.wav", Q, max_new_tokens=1).receipt.audio
    assert heard is not None and heard.used_seconds == pytest.approx(1.0, abs=0.01)


def test_more_frames_requested_than_available(engine: Engine, media: Path) -> None:
    for wanted in (2**31, 10**18):
        with pytest.raises(UsageError, match="num_frames"):
            engine.answer(media / "clip.mp4", Q, num_frames=wanted)
    for wanted in (33, 10_000):
        seen = engine.answer(media / "clip.mp4", Q, num_frames=wanted, max_new_tokens=1).receipt.video
        assert seen is not None and seen.frames_used <= 32 and seen.notes


def test_arrays_that_are_not_images(engine: Engine) -> None:
    frames = np.zeros((4, 48, 64, 3), np.uint8)
    for wrong in (
        frames[:0],
        frames.astype(np.float32) * np.nan,
        frames[..., :2],
        frames.astype(object),
        [],
        [5],
        [None],
    ):
        with pytest.raises(VideoLlama2Error):
            engine.answer(wrong, Q)
    assert engine.answer(frames, Q, max_new_tokens=1).receipt.video is not None


def test_the_error_for_a_list_of_videos_names_the_way(engine: Engine, media: Path) -> None:
    with pytest.raises(UnreadableMedia) as caught:
        engine.answer([media / "clip.mp4", media / "long.mp4"], Q)
    assert "list of Media" in caught.value.__notes__[0]


# ── models ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def copy(tiny_folder: Path, tmp_path: Path) -> Path:
    for file in tiny_folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    return tmp_path


def changed_config(copy: Path, **changes: Any) -> None:
    values = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps({**values, **changes}))


def changed_text(copy: Path, **changes: Any) -> None:
    values = json.loads((copy / "config.json").read_text())
    changed_config(copy, text_config={**values["text_config"], **changes})


def changed_tensors(copy: Path, change: Callable[[dict[str, torch.Tensor]], Any]) -> None:
    tensors = load_file(copy / "model.safetensors")
    change(tensors)
    save_file(tensors, copy / "model.safetensors", metadata={"format": "pt"})


HEAD = "lm_head.weight"
BROKEN: dict[str, tuple[Callable[[Path], Any], type[VideoLlama2Error], str]] = {
    "no config": (lambda p: (p / "config.json").unlink(), CheckpointNotFound, "config.json"),
    "no weights": (lambda p: (p / "model.safetensors").unlink(), CheckpointNotFound, "safetensors"),
    "no tokenizer": (lambda p: (p / "tokenizer.json").unlink(), CheckpointNotFound, "tokenizer"),
    "half of the weights": (
        lambda p: (p / "model.safetensors").write_bytes((p / "model.safetensors").read_bytes()[:5000]),
        VideoLlama2Error, "model.safetensors",
    ),
    "a missing tensor": (lambda p: changed_tensors(p, lambda t: t.pop(HEAD)), TensorMismatch, HEAD),
    "a tensor too many": (
        lambda p: changed_tensors(p, lambda t: t.update(odd=torch.zeros(2))), TensorMismatch, "odd",
    ),
    "a wrong shape": (
        lambda p: changed_tensors(p, lambda t: t.update({HEAD: torch.zeros(3, 4)})), TensorMismatch, r"\[3, 4\]",
    ),
    "an unknown key": (lambda p: changed_config(p, num_frame=8), ConfigError, "did you mean 'num_frames'"),
    "an unknown connector": (lambda p: changed_config(p, connector_type="stc_v99"), ConfigError, "stc_v99"),
    "no frames": (lambda p: changed_config(p, num_frames=0), ConfigError, "num_frames"),
    "a broken tokenizer": (lambda p: (p / "tokenizer.json").write_text("{"), VideoLlama2Error, "tokenizer"),
    "a broken preprocessor": (
        lambda p: (p / "preprocessor_config.json").write_text("{"), VideoLlama2Error, "preprocessor_config.json",
    ),
    "a wrong number of frames": (lambda p: changed_config(p, num_frames="many"), VideoLlama2Error, "num_frames"),
    "an unknown language model": (lambda p: changed_text(p, model_type="x"), ConfigError, "no such model type"),
    "sizes that contradict": (lambda p: changed_text(p, num_hidden_layers=10**5), ConfigError, "text_config"),
    "no pooling": (lambda p: changed_config(p, audio_pool=[0, 1]), ConfigError, "audio_pool"),
    # refused before memory is taken for it: a terabyte here
    "a width beyond all memory": (lambda p: changed_text(p, hidden_size=10**6), TensorMismatch, "1000000"),
    "an unknown protocol": (lambda p: changed_config(p, protocol="fulll"), VideoLlama2Error, "fulll"),
}  # fmt: skip


@pytest.mark.parametrize("kind", BROKEN)
def test_broken_checkpoints(kind: str, copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spoil, error, told = BROKEN[kind]
    spoil(copy)
    with pytest.raises(error, match=told) as caught:
        videollama2.load(copy, device="cpu")
    code = cli.main(["ask", Q, "--model", str(copy), "--device", "cpu"])
    out, err = capsys.readouterr()
    assert (code, out) == (caught.value.exit_code, "") and err.startswith("error: ")


def test_media_that_a_model_cant_take(tmp_path: Path, media: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, changes, medium in (
        ("blind", {"vision_config": None}, "clip.mp4"), ("blind", {}, "still.png"),
        ("deaf", {"audio_config": None}, "tone.wav"),
    ):  # fmt: skip
        folder = tmp_path / name if (tmp_path / name).exists() else tiny.save(tmp_path / name, **changes)
        with pytest.raises(UnsupportedModality):
            videollama2.load(folder, device="cpu").answer(media / medium, Q)
        assert cli.main(["ask", str(media / medium), Q, "--model", str(folder), "--device", "cpu"]) == 5
        assert "encoder" in capsys.readouterr().err


def test_a_prompt_longer_than_the_context(tmp_path: Path, media: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text_config = {**tiny.config().text_config.to_dict(), "max_position_embeddings": 100}
    folder = tiny.save(tmp_path / "short", text_config=text_config)
    with pytest.raises(ContextOverflow, match="100"):
        videollama2.load(folder, device="cpu").answer(media / "clip.mp4", Q)
    assert cli.main(["ask", str(media / "clip.mp4"), Q, "--model", str(folder), "--device", "cpu"]) == 5
    assert "shorter range" in capsys.readouterr().err


def test_an_image_of_every_mode(engine: Engine, tmp_path: Path) -> None:
    for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16", "F", "CMYK"):
        file = tmp_path / f"{mode.replace(';', '')}.{'tiff' if mode in ('F', 'CMYK', 'I;16') else 'png'}"
        Image.new(mode, (40, 30)).save(file)
        assert engine.answer(file, Q, max_new_tokens=1).receipt.video is not None, mode


def test_av_is_not_noisy(engine: Engine, media: Path, capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """By itself, FFmpeg writes about damage to standard error."""
    with pytest.raises(VideoLlama2Error):
        engine.answer(cut(tmp_path, media), Q)
    assert capfd.readouterr().err == "" and av.logging.get_level() is None
