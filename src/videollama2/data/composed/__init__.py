"""Clips with known content: labelled pictures move over a background while labelled sounds play.

    packs      Pictures, Sounds: what there is (sketches, tones: some that need no files)
    scenes     compose ──► Scene (what happens, JSON-able, one seed)
    drawing    render_frames ──► frames u8[T, H, W, 3]   any times, any size
    clips      render_sound  ──► wave f32[S], 16 kHz;  write_clip ──► a real mp4
    questions  ask           ──► question, answer (captions: in free words)
    batches    ComposedBatches ──► token ids, masks, arrays
    rendering  the same on a device, augmented;  steps: of training

There is little labelled video to be had; here the truth is known exactly (what is shown, in which colour, how many of
it, where it goes, what is heard and in which order), and a test clip can be made from pictures and recordings that
training never saw. `drawing.batch_frames` is the same renderer for many scenes at once on any device, so that training
needs no files.

Only numpy, Pillow and torch are needed here, and PyAV for `write_clip`. This file gathers the names of the first four.
"""

from .clips import SOUND_RATE_HZ, render_sound, write_clip
from .drawing import batch_frames, render_frames, scene_arrays
from .packs import COLOURS, PHOTO_CLASSES, SHAPES, TEXTURE_SIDE, Pictures, Sounds
from .scenes import DIRECTIONS, STEPS, Chances, Scene, Sound, Thing, compose, plural, sound_of

__all__ = [
    "COLOURS",
    "DIRECTIONS",
    "PHOTO_CLASSES",
    "SHAPES",
    "SOUND_RATE_HZ",
    "STEPS",
    "TEXTURE_SIDE",
    "Chances",
    "Pictures",
    "Scene",
    "Sound",
    "Sounds",
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
