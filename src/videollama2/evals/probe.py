"""The probe: an offline benchmark that is regenerated, byte for byte, from a seed.

    source (packs, or this package's own drawings and tones) + seed ── make ──► FOLDER/probe.jsonl, FOLDER/*.mp4

Every clip has one question, which is asked twice: with options (benchmark `probe`) and openly (`probe-open`).
"""

import hashlib
import os
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from ..data.composed import PicturePack, SoundPack, render_frames, render_sound, write_clip
from ..data.composed.sketches import sketches
from ..data.composed.tones import tones
from ..errors import UsageError
from ..jobs import OnProgress
from ..json_lines import dumps_line
from ..storage import unwritable, write_whole
from .extract import LETTERS
from .probe_tasks import TASKS, Maker, ProbeQuestion, ProbeSource

FILE = "probe.jsonl"
CLIPS, SEED = 40, 20_000
_SIDE, _FRAMES_PER_SECOND = 224, 6


def built_in() -> ProbeSource:
    """Drawn shapes and objects, and sounds from formulas: small, made by this package, the same everywhere."""
    return ProbeSource(sketches(), tones(), "built in: drawn shapes and things, sounds from formulas")


def packs(folder: Path) -> ProbeSource:
    """The held-out split of the packs that recipes/nano makes: pictures.npz and sounds.npz.

    Raises:
        MediaNotFound: one of them is missing.
    """
    pictures, sounds = (folder / name for name in ("pictures.npz", "sounds.npz"))
    read = PicturePack.load(pictures, "test"), SoundPack.load(sounds, "test")
    digest = hashlib.sha256()
    for path in (pictures, sounds):
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return ProbeSource(*read, "packs of recipes/nano, held-out split", digest.hexdigest())


def make(
    folder: Path, source: ProbeSource, *, clips: int = CLIPS, seed: int = SEED, on_progress: OnProgress | None = None
) -> Path:
    """Write the probe's questions and clips into a folder; existing clips are kept.

    Args:
        clips: number per task.
        seed: a different one gives a different probe of the same kind.

    Returns:
        The file of questions.

    Raises:
        UsageError: the folder holds a different probe, or `clips` is below 1.
        StorageError: the folder can't be written.
    """
    if clips < 1:
        raise UsageError(f"expected 1 or more clips per task, got {clips}.")
    made = list(questions(source, clips=clips, seed=seed))
    lines = "".join(dumps_line(_record(name, q, source, seed)) + "\n" for name, q in made).encode()
    path = folder / FILE
    try:
        if path.is_file() and path.read_bytes() != lines:
            raise UsageError(f"{path} differs from this probe in packs, seed or clips; name another folder with --out.")
        folder.mkdir(parents=True, exist_ok=True)
        for done, (name, question) in enumerate(made):
            if on_progress is not None:
                on_progress(done, len(made))
            if not (clip := folder / name).is_file():
                _write(clip, question, source)
        if on_progress is not None:
            on_progress(len(made), len(made))
    except OSError as error:
        raise unwritable(folder, error) from error
    write_whole(path, lines)
    return path


def questions(source: ProbeSource, *, clips: int, seed: int) -> Iterator[tuple[str, ProbeQuestion]]:
    """Every question with the name of its clip, task by task."""
    for number, (task, asked) in enumerate(TASKS.items()):
        maker = Maker(source, np.random.default_rng((seed, number)))
        for i, question in enumerate(asked(maker, clips)):
            yield f"{task}{i:03}.mp4", question


def _record(name: str, question: ProbeQuestion, source: ProbeSource, seed: int) -> dict[str, Any]:
    """A line of the file: the question, and the truth about the clip."""
    told = asdict(question)
    scene = told.pop("scene")
    task = name.removesuffix(".mp4").rstrip("0123456789")
    letter = LETTERS[question.options.index(question.answer)]
    made = {"source": source.name, "source_sha256": source.sha256, "seed": seed}
    return {"clip": name, "task": task, **told, "letter": letter, **made, "scene": scene}


def _write(clip: Path, question: ProbeQuestion, source: ProbeSource) -> None:
    """Write a clip as a whole: another process may make it, too, and a kill leaves no partial file."""
    scene = question.scene
    frames = render_frames(scene, source.pictures, round(scene.seconds * _FRAMES_PER_SECOND), _SIDE)
    part = clip.with_name(f".{clip.stem}-{os.getpid()}.mp4")
    try:
        write_clip(part, frames, render_sound(scene, source.sounds), seconds=scene.seconds)
        part.replace(clip)
    finally:
        part.unlink(missing_ok=True)
