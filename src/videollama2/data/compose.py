"""Clips with known content: labelled pictures move over a background while labelled sounds play.

    Scene (what happens, JSON-able, one seed) ── render_frames ──► frames u8[T, H, W, 3]   any times, any size
                                              ── render_sound  ──► wave f32[S], 16 kHz
                                              ── write_clip    ──► a real mp4
                                              ── ask           ──► question, answer

There is little labelled video to be had; here the truth is known exactly (what is shown, where it goes, what is heard
and in which order), and a test clip can be made from pictures and recordings that training never saw. `batch_frames`
is the same renderer for many scenes at once on any device, so that training needs no files.

Only numpy, Pillow and torch are needed here, and PyAV for `write_clip`.

Shapes: B scenes, K things per scene, T frames, S texture side, G background grid side.
"""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from ..errors import EmptyMedia, MediaNotFound

SOUND_RATE_HZ = 16_000
TEXTURE_SIDE = 96
GRID_SIDE = 12
MAX_THINGS = 2

PHOTO_CLASSES = (
    "an airplane", "a car", "a bird", "a cat", "a deer", "a dog", "a frog", "a horse", "a ship", "a truck",
)  # fmt: skip
STEPS = {"left": (-1, 0), "right": (1, 0), "up": (0, -1), "down": (0, 1), "still": (0, 0)}
DIRECTIONS = ("left", "right", "up", "down")


@dataclass(frozen=True)
class Thing:
    """A picture and its path. Places and sizes are fractions of the frame, times fractions of the clip."""

    name: str
    picture: str  # "photo:17" or "stamp:3"
    direction: str
    start: tuple[float, float]
    end: tuple[float, float]
    size: tuple[float, float]  # at the start, at the end
    seconds: tuple[float, float] = (0.0, 1.0)


@dataclass(frozen=True)
class Sound:
    """A stretch of a recording. `at` and `length` are fractions of the clip, `offset` a fraction of the recording."""

    name: str
    recording: int
    offset: float
    at: float = 0.0
    length: float = 1.0
    gain: float = 1.0


@dataclass(frozen=True)
class Scene:
    """Everything that happens in a clip, which is also its ground truth.

    Attributes:
        things, sounds: in order of appearance.
        backdrop: seed of the background's colours.
        drift: how far the background slides in the clip, in frame widths (it says nothing about the things).
    """

    seed: int
    seconds: float
    things: tuple[Thing, ...] = ()
    sounds: tuple[Sound, ...] = ()
    backdrop: int = 0
    drift: tuple[float, float] = (0.0, 0.0)

    def to_json(self) -> str:
        return json.dumps(asdict(self), sort_keys=True)


@dataclass(frozen=True)
class Pictures:
    """Labelled pictures: small square photos of ten classes, and cut-out pictures of many more.

    Attributes:
        photos: u8[N, 32, 32, 3]; `photo_labels` i64[N] index `PHOTO_CLASSES`.
        stamps: u8[M, 96, 96, 4] with transparency; `stamp_names` M texts such as "a green pepper".
    """

    photos: NDArray[np.uint8]
    photo_labels: NDArray[np.int64]
    stamps: NDArray[np.uint8]
    stamp_names: tuple[str, ...]

    @classmethod
    def load(cls, path: Path, split: str) -> "Pictures":
        """The `split` ("train" or "test") of a pack that recipes/nano/pictures.py wrote."""
        with _open_pack(path) as pack:
            return cls(
                pack[f"photos_{split}"], pack[f"labels_{split}"], pack["stamps"], tuple(pack["stamp_names"].tolist())
            )

    def texture(self, picture: str) -> NDArray[np.uint8]:
        """u8[96, 96, 4] of "photo:i" or "stamp:i"."""
        kind, _, index = picture.partition(":")
        if kind == "stamp":
            return self.stamps[int(index)]
        photo = Image.fromarray(self.photos[int(index)]).resize((TEXTURE_SIDE, TEXTURE_SIDE), Image.Resampling.BICUBIC)
        opaque = np.full((TEXTURE_SIDE, TEXTURE_SIDE, 1), 255, np.uint8)
        return np.concatenate([np.asarray(photo), opaque], axis=2)


@dataclass(frozen=True)
class Sounds:
    """Labelled recordings: one long int16 wave at 16 kHz, and where each recording lies in it."""

    wave: NDArray[np.int16]
    labels: tuple[str, ...]
    spans: tuple[tuple[int, int], ...]
    by_label: dict[str, list[int]] = field(default_factory=dict)

    @classmethod
    def load(cls, path: Path, split: str) -> "Sounds":
        """The `split` ("train" or "test") of a pack that recipes/nano/sounds.py wrote."""
        with _open_pack(path) as pack:
            index = [r for r in json.loads(str(pack["index"])) if r["split"] == split]
            wave = pack["wave"]
        return cls.of(wave, [(r["label"], r["start"], r["stop"]) for r in index])

    @classmethod
    def of(cls, wave: NDArray[np.int16], index: list[tuple[str, int, int]]) -> "Sounds":
        by_label: dict[str, list[int]] = {}
        for i, (label, _, _) in enumerate(index):
            by_label.setdefault(label, []).append(i)
        return cls(wave, tuple(i[0] for i in index), tuple((i[1], i[2]) for i in index), by_label)

    def cut(self, recording: int, offset: float, samples: int) -> NDArray[np.float32]:
        """f32[samples] of a recording from `offset` (a fraction of what can be skipped), repeated if too short."""
        start, stop = self.spans[recording]
        begin = start + int(offset * max(0, stop - start - samples))
        piece = self.wave[begin : min(stop, begin + samples)].astype(np.float32) / 32768
        if piece.size == 0:
            raise EmptyMedia(f"recording {recording} has no samples; rebuild the pack of sounds")
        return np.resize(piece, samples)


def _open_pack(path: Path) -> Any:
    if not path.is_file():
        raise MediaNotFound(f"no pack at {path}; recipes/nano builds it (see recipes/nano/README.md)")
    return np.load(path, allow_pickle=False)


# ── making scenes ─────────────────────────────────────────────────────────────────────────────────────────────────


def compose(
    seed: int,
    pictures: Pictures | None,
    sounds: Sounds | None,
    *,
    labels: tuple[str, ...] | None = None,
    stamps: float = 0.2,
    two: float = 0.2,
    still: float = 0.15,
    close: float = 0.15,
    seconds: tuple[float, float] = (2.0, 10.0),
) -> Scene:
    """A random scene; the same seed gives the same scene.

    Args:
        pictures, sounds: what to draw from; None leaves that modality out.
        labels: sounds to choose among (default: all that `sounds` has), each as likely as any other.
        stamps: chance that a thing is a cut-out instead of a photo.
        two: chance of two things one after the other; likewise, apart from that, of two sounds.
        still: chance that a thing does not move.
        close: chance that a thing is so near that it fills the frame.
        seconds: shortest and longest clip.
    """
    rng = np.random.default_rng(seed)
    length = float(rng.uniform(*seconds))
    things: list[Thing] = []
    if pictures is not None:
        halves = ((0.0, 0.5), (0.5, 1.0)) if rng.random() < two else ((0.0, 1.0),)
        for span in halves:
            things.append(_thing(rng, pictures, span, (stamps, still, close), {t.name for t in things}))
    heard: list[Sound] = []
    if sounds is not None:
        choice = labels or tuple(sounds.by_label)
        count = 2 if rng.random() < two and len(choice) > 1 else 1
        for i, which in enumerate(rng.choice(len(choice), count, replace=False)):
            recording = int(rng.choice(sounds.by_label[choice[which]]))
            gain = float(10 ** rng.uniform(-1.0, 0.0))
            heard.append(Sound(choice[which], recording, float(rng.random()), i / count, 1 / count, gain))
    drift = tuple(float(d) for d in rng.uniform(-0.25, 0.25, 2))
    return Scene(seed, length, tuple(things), tuple(heard), int(rng.integers(2**31)), (drift[0], drift[1]))


def _thing(
    rng: np.random.Generator,
    pictures: Pictures,
    span: tuple[float, float],
    chances: tuple[float, float, float],
    taken: set[str],
) -> Thing:
    stamps, still, close = chances
    while True:
        if pictures.stamps.shape[0] and rng.random() < stamps:
            index = int(rng.integers(len(pictures.stamp_names)))
            name, picture = pictures.stamp_names[index], f"stamp:{index}"
        else:
            label = int(rng.integers(len(PHOTO_CLASSES)))
            index = int(rng.choice(np.flatnonzero(pictures.photo_labels == label)))
            name, picture = PHOTO_CLASSES[label], f"photo:{index}"
        if name not in taken:
            break
    direction = "still" if rng.random() < still else DIRECTIONS[int(rng.integers(4))]
    size = float(rng.uniform(1.0, 1.5) if rng.random() < close else rng.uniform(0.5, 0.85))
    travel = float(rng.uniform(0.22, 0.5))
    step = np.array(STEPS[direction], float)
    centre = 0.5 + rng.uniform(-0.08, 0.08, 2)
    start, end = centre - step * travel / 2, centre + step * travel / 2
    grow = float(rng.uniform(0.9, 1.12))
    return Thing(
        name,
        picture,
        direction,
        (float(start[0]), float(start[1])),
        (float(end[0]), float(end[1])),
        (size, size * grow),
        span,
    )


# ── pictures ──────────────────────────────────────────────────────────────────────────────────────────────────────


def backdrop_grid(scene: Scene) -> NDArray[np.uint8]:
    """u8[G, G, 3]: the background's colours, from nearly flat to busy."""
    rng = np.random.default_rng(scene.backdrop)
    cells = int(rng.choice((2, 3, 4, 6, 12)))
    base, spread = rng.uniform(20, 235, 3), float(rng.uniform(5, 90))
    colours = np.clip(base + rng.normal(0, spread, (cells, cells, 3)), 0, 255).astype(np.uint8)
    return np.array(Image.fromarray(colours).resize((GRID_SIDE, GRID_SIDE), Image.Resampling.BICUBIC))


def poses(scene: Scene, times: NDArray[np.float64]) -> NDArray[np.float32]:
    """f32[K, T, 4]: x, y and side of every thing at times 0..1, and 1.0 where it is in the picture."""
    out = np.zeros((MAX_THINGS, times.size, 4), np.float32)
    for k, thing in enumerate(scene.things):
        begin, stop = thing.seconds
        done = np.clip((times - begin) / (stop - begin), 0, 1)[:, None]
        out[k, :, :2] = np.array(thing.start) * (1 - done) + np.array(thing.end) * done
        out[k, :, 2:3] = thing.size[0] * (1 - done) + thing.size[1] * done
        out[k, :, 3] = (times >= begin) & (times < stop if stop < 1 else times <= stop)
    return out


def batch_frames(textures: Tensor, poses: Tensor, grids: Tensor, drifts: Tensor, times: Tensor, side: int) -> Tensor:
    """Draw many scenes at once.

    Args:
        textures: u8[B, K, S, S, 4]. poses: f32[B, K, T, 4] as from `poses`. grids: u8[B, G, G, 3].
        drifts: f32[B, 2]. times: f32[T] in 0..1, those of the poses. side: of the square frames, in pixels.

    Returns:
        f32[B, T, 3, side, side] in 0..255, on the inputs' device.
    """
    B, K, T, _ = poses.shape
    device = textures.device
    axis = (torch.arange(side, device=device, dtype=torch.float32) + 0.5) / side
    ys, xs = torch.meshgrid(axis, axis, indexing="ij")
    points = torch.stack([xs, ys], dim=-1)  # [side, side, 2] in 0..1

    # the middle of the backdrop fills the frame, so that it has room to slide
    slid = (points - 0.5) * 1.2 + (times.view(1, T, 1, 1, 1) - 0.5) * drifts.view(B, 1, 1, 1, 2) * 2
    wide = grids.permute(0, 3, 1, 2).float().unsqueeze(1).expand(B, T, 3, GRID_SIDE, GRID_SIDE).flatten(0, 1)
    canvas = F.grid_sample(wide, slid.flatten(0, 1), padding_mode="reflection", align_corners=False)

    for k in range(K):
        pose = poses[:, k].reshape(B * T, 1, 1, 4)
        grid = (points - pose[..., :2]) / pose[..., 2:3].clamp_min(1e-3) * 2
        texture = textures[:, k].permute(0, 3, 1, 2).float() / 255
        texture = torch.cat([texture[:, :3] * texture[:, 3:], texture[:, 3:]], dim=1)  # premultiplied: no dark rims
        texture = texture.unsqueeze(1).expand(B, T, *texture.shape[1:]).flatten(0, 1)
        drawn = F.grid_sample(texture, grid, padding_mode="zeros", align_corners=False) * pose[..., 3].unsqueeze(1)
        canvas = canvas * (1 - drawn[:, 3:]) + drawn[:, :3] * 255
    return canvas.view(B, T, 3, side, side)


def scene_arrays(scene: Scene, pictures: Pictures | None, times: NDArray[np.float64]) -> dict[str, NDArray[Any]]:
    """What `batch_frames` needs for one scene: textures, poses, grids, drifts (without the batch axis)."""
    textures = np.zeros((MAX_THINGS, TEXTURE_SIDE, TEXTURE_SIDE, 4), np.uint8)
    for k, thing in enumerate(scene.things):
        assert pictures is not None
        textures[k] = pictures.texture(thing.picture)
    return {
        "textures": textures,
        "poses": poses(scene, times),
        "grids": backdrop_grid(scene),
        "drifts": np.array(scene.drift, np.float32),
    }


def render_frames(scene: Scene, pictures: Pictures, count: int, side: int) -> NDArray[np.uint8]:
    """u8[count, side, side, 3]: frames at evenly spaced times, the first at the start and the last at the end."""
    times = np.linspace(0, 1, count)
    arrays = {k: torch.from_numpy(v)[None] for k, v in scene_arrays(scene, pictures, times).items()}
    frames = batch_frames(**arrays, times=torch.from_numpy(times).float(), side=side)
    return frames[0].round().clamp(0, 255).byte().permute(0, 2, 3, 1).contiguous().numpy()


# ── sound ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def render_sound(scene: Scene, sounds: Sounds) -> NDArray[np.float32]:
    """f32[seconds · 16000] in ±1: the scene's sounds, each faded in and out over 20 ms."""
    total = round(scene.seconds * SOUND_RATE_HZ)
    wave = np.zeros(total, np.float32)
    for sound in scene.sounds:
        begin, length = round(sound.at * total), round(sound.length * total)
        piece = sounds.cut(sound.recording, sound.offset, min(length, total - begin)) * sound.gain
        fade = min(SOUND_RATE_HZ // 50, piece.size // 2)
        ramp = np.linspace(0, 1, fade, dtype=np.float32)
        piece[:fade] *= ramp
        piece[piece.size - fade :] *= ramp[::-1]
        wave[begin : begin + piece.size] += piece
    return np.clip(wave, -1, 1)


# ── files ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def write_clip(
    path: Path,
    frames: NDArray[np.uint8] | None,
    wave: NDArray[np.float32] | None,
    *,
    seconds: float,
    rate_hz: int = SOUND_RATE_HZ,
) -> None:
    """Write frames u8[T, H, W, 3] (H and W even) and a mono wave f32[S] as one mp4 (H.264 where the build has it, AAC).

    Raises:
        EmptyMedia: neither frames nor sound.
    """
    import av

    if frames is None and wave is None:
        raise EmptyMedia("a clip needs frames or sound; neither was given")
    with av.open(str(path), "w") as out:
        if frames is not None:
            codec = "libx264" if "libx264" in av.codecs_available else "mpeg4"
            video = out.add_stream(codec, rate=max(1, round(len(frames) / seconds)))
            video.height, video.width, video.pix_fmt = frames.shape[1], frames.shape[2], "yuv420p"
            video.bit_rate = 600_000
        if wave is not None:
            audio = out.add_stream("aac", rate=rate_hz, layout="mono")
        if frames is not None:
            for image in frames:
                out.mux(video.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
            out.mux(video.encode())
        if wave is not None:
            sound = av.AudioFrame.from_ndarray(wave[None], format="fltp", layout="mono")
            sound.sample_rate = rate_hz
            out.mux(audio.encode(sound))
            out.mux(audio.encode())
