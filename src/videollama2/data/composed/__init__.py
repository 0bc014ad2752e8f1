"""Clips whose content is known: labelled pictures move over a background while labelled sounds play.

    packs      PicturePack, SoundPack: labelled pictures and recordings (sketches, tones: packs that need no files)
    scenes     compose ──► Scene: what happens in a clip, from one seed, as JSON
    drawing    render_frames ──► frames u8[T, H, W, 3], at any times and size
    clips      render_sound  ──► wave f32[S], 16 kHz;  write_clip ──► mp4

Labelled video is rare. Here the truth is known exactly (what is shown, its colour, number and direction, what is heard
and in which order), and test clips can use pictures and recordings that training never saw. The probe
(evals/probe.py) evaluates on such clips, and recipes/nano trains on them: `drawing.batch_frames` renders many scenes at
once on any device, without files.

Needs only numpy, Pillow and torch, and PyAV for `write_clip`.
"""

from .clips import SOUND_RATE_HZ, render_sound, write_clip
from .drawing import batch_frames, render_frames, scene_arrays
from .packs import COLOURS, PHOTO_CLASSES, SHAPES, TEXTURE_SIDE, PicturePack, SoundPack
from .scenes import DIRECTIONS, STEPS, Chances, Scene, SceneSound, Thing, compose, plural, sound_of

__all__ = [
    "COLOURS",
    "DIRECTIONS",
    "PHOTO_CLASSES",
    "SHAPES",
    "SOUND_RATE_HZ",
    "STEPS",
    "TEXTURE_SIDE",
    "Chances",
    "PicturePack",
    "Scene",
    "SceneSound",
    "SoundPack",
    "Thing",
    "batch_frames",
    "compose",
    "plural",
    "render_frames",
    "render_sound",
    "scene_arrays",
    "sound_of",
    "write_clip",
]
