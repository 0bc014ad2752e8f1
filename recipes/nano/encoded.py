"""Clips and pictures, encoded once by the frozen encoders and connector → files of tokens that training reads.

    python recipes/nano/encoded.py clips START --pictures pictures.npz --sounds sounds.npz --out OUT --count 900
    python recipes/nano/encoded.py photographs START --photographs photographs.npz --out OUT
    python recipes/nano/encoded.py films START --photographs photographs.npz --out OUT --count 500
    python recipes/nano/encoded.py quiet START --out OUT --count 50

START stands for the five inputs of start.py: --gguf, --parts, --classifier, --yamnet, --names.

Only the language model's adapters learn in nano 2, so a clip's tokens are the same in every step. A file
holds 50 items:

    kind    "av", "video", "image" or "audio"
    seen    bf16 [144, D], STC's tokens (of a still, 36 tokens four times); None without a picture
    scores  f32 [periods, K], mean scores of classes and colours of each period of the clip; None without a picture
    heard   bf16 [n, D], audio tokens; None without audio
    sounds  f32 [periods, 521], the greatest score of each class of sound in a period; None without audio
    scene   the composed scene; None for the others

A film is a photograph that a camera moves over; quiet audio is silence or faint noise.
"""

import argparse
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from batches import _vary, frame_times
from rendering import DRAWN_SIDE, augment_frames, augment_sound, frames_to_pixels
from start import precision, starting_model
from torch import Tensor
from torch.nn import functional as F

from videollama2.data.composed import (
    SOUND_RATE_HZ,
    PicturePack,
    Scene,
    SceneSound,
    SoundPack,
    Thing,
    batch_frames,
    compose,
    render_sound,
    scene_arrays,
)
from videollama2.paired_vision import CLASSIFIER_MEAN, CLASSIFIER_STD
from videollama2.sound_names import PROJECTORS

MIXTURE = {"av": 0.55, "video": 0.3, "image": 0.08, "audio": 0.07}
CHANCES = {"two": 0.35, "drawings": 0.45}  # order and drawings are what is forgotten first
PER_FILE = 50
SECONDS = (2.0, 5.0)
WINDOW = (0.6, 1.0)  # of a photograph's side
QUIET_SECONDS, QUIET_DB = (1.0, 20.0), (-90.0, -50.0)
FRAMES = 8
MEAN, STD = (CLASSIFIER_MEAN,) * 3, (CLASSIFIER_STD,) * 3


def scene_of(values: dict[str, Any]) -> Scene:
    """The scene that `asdict` took apart."""
    things = tuple(
        Thing(**{k: tuple(v) if isinstance(v, list) else v for k, v in thing.items()}) for thing in values["things"]
    )
    sounds = tuple(SceneSound(**sound) for sound in values["sounds"])
    return Scene(**{**values, "things": things, "sounds": sounds, "drift": tuple(values["drift"])})


def clip(
    model: Any, pictures: PicturePack, sounds: SoundPack, seed: tuple[int, ...], chances: dict[str, float]
) -> dict[str, Any]:
    """A composed clip, augmented and encoded; the same seed gives the same clip."""
    rng = np.random.default_rng(seed)
    kind = str(rng.choice(list(MIXTURE), p=list(MIXTURE.values())))
    length = float(rng.uniform(*SECONDS))
    seen, heard = kind != "audio", kind in ("av", "audio")
    options = {**chances, **({"two": 0.0} if kind == "image" else {})}
    scene = compose(
        int(rng.integers(2**62)), pictures if seen else None, sounds if heard else None, seconds=(length, length),
        **options,
    )  # fmt: skip
    generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
    item: dict[str, Any] = {
        "kind": kind,
        "scene": asdict(scene),
        "seen": None,
        "scores": None,
        "heard": None,
        "sounds": None,
    }
    if seen:
        times = frame_times(1 if kind == "image" else FRAMES)
        arrays = scene_arrays(scene, pictures, times)
        arrays["textures"] = _vary(arrays["textures"], rng)
        drawn = {k: torch.from_numpy(v[None]) for k, v in arrays.items()}
        frames = batch_frames(**drawn, times=torch.from_numpy(times).float(), side=DRAWN_SIDE)
        item |= see(model, frames_to_pixels(augment_frames(frames, generator), 260, MEAN, STD)[0])
    if heard:
        speed = float(rng.uniform(0.84, 1.19))
        wave = torch.from_numpy(render_sound(replace(scene, seconds=length * speed), sounds).copy()).float()[None]
        wave = F.interpolate(wave[:, None], size=round(length * SOUND_RATE_HZ), mode="linear")[:, 0]
        item |= hear(model, augment_sound(wave, generator))
    return item


def see(model: Any, pixels: Tensor) -> dict[str, Tensor]:
    """STC's tokens and the periods' scores of frames f32[T, 3, S, S]; one frame is a still."""
    inner = model.model
    connector, K = inner.connector, inner.connector.settings.scores
    features = inner.encode_frames(pixels)
    still = FRAMES if len(pixels) == 1 else None
    seen = connector.stc(features[None, ..., :-K], still)[0]
    scores = F.adaptive_avg_pool1d(features[..., -K:].float().mean(1).T, connector.settings.periods).T
    return {"seen": seen.bfloat16(), "scores": scores}


def hear(model: Any, wave: Tensor) -> dict[str, Tensor]:
    """Audio tokens without names, and the periods' scores, of samples f32[1, S]."""
    inner = model.model
    config, naming = inner.config, PROJECTORS[inner.config.audio_projector_type]
    features = inner.encode_audio(config.audio_config.input_features(wave[0])[None])
    tokens = inner.connect_audio(features)[0][: -naming.num_tokens]
    scores = features[0][:: config.audio_config.rows, -naming.classes :].float()
    return {"heard": tokens.bfloat16(), "sounds": F.adaptive_max_pool1d(scores.T, naming.periods).T}


def camera(photograph: Tensor, rng: np.random.Generator) -> Tensor:
    """A photograph u8[S, S, 3] → pixels f32[FRAMES, 3, S, S]: a window moves over it, and grows or shrinks."""
    side = photograph.shape[0]
    ends = []
    for _ in range(2):
        width = side * float(rng.uniform(*WINDOW))
        ends.append((*(float(rng.uniform(0, side - width)) for _ in range(2)), width))
    frames = []
    for t in np.linspace(0, 1, FRAMES):
        left, top, width = (round(a + float(t) * (b - a)) for a, b in zip(*ends, strict=True))
        part = photograph[top : top + width, left : left + width].permute(2, 0, 1)[None].float()
        frames.append(F.interpolate(part, (side, side), mode="bicubic", antialias=True).clamp(0, 255))
    return (torch.cat(frames) / 255 - MEAN[0]) / STD[0]


def quiet(rng: np.random.Generator) -> Tensor:
    """Samples f32[1, S] of silence, or of noise far below full scale."""
    wave = torch.from_numpy(rng.standard_normal(round(float(rng.uniform(*QUIET_SECONDS)) * SOUND_RATE_HZ)))
    level = 0.0 if rng.random() < 0.4 else 10 ** (float(rng.uniform(*QUIET_DB)) / 20)
    return (level * wave * 32767).round().float()[None] / 32767  # as 16-bit files have it


def write(items: Iterator[dict[str, Any]], count: int, out: Path, stem: str) -> None:
    """Files of PER_FILE items each; finished files are not made again."""
    out.mkdir(parents=True, exist_ok=True)
    halved = precision(torch.device("cpu")) == torch.bfloat16
    for start in range(0, count, PER_FILE):
        path = out / f"{stem}-{start // PER_FILE:04}.pt"
        stop = min(start + PER_FILE, count)
        if path.is_file():
            continue
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=halved):
            made = [items(i) for i in range(start, stop)]  # type: ignore[operator]
        torch.save(made, path.with_suffix(".part"))
        path.with_suffix(".part").replace(path)
        print(f"{path}: {stop} of {count}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("clips", "photographs", "films", "quiet"))
    for name in ("gguf", "parts", "classifier", "yamnet", "names", "out"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    for name in ("pictures", "sounds", "photographs"):
        parser.add_argument(f"--{name}", type=Path)
    parser.add_argument("--count", type=int, default=1500, help=f"rounded up to whole files of {PER_FILE}")
    parser.add_argument("--seed", type=int, default=200)
    parser.add_argument("--split", default="train")
    args = parser.parse_args()
    args.count = -(-args.count // PER_FILE) * PER_FILE  # a run that asks for more keeps the files that are there
    model = starting_model(args.parts, args.classifier, args.yamnet, args.gguf, args.names)
    if args.what == "quiet":

        def recording(i: int) -> dict[str, Any]:
            heard = hear(model, quiet(np.random.default_rng((args.seed, i))))
            return {"kind": "audio", "seen": None, "scores": None, "scene": None, **heard}

        write(recording, args.count, args.out, args.what)  # type: ignore[arg-type]
        return
    if args.what != "clips":
        with np.load(args.photographs) as pack:
            photographs = torch.from_numpy(pack["photographs"])
        order = np.random.default_rng(args.seed).permutation(len(photographs))

        def picture(i: int) -> dict[str, Any]:
            photograph = photographs[order[i % len(order)]]
            if args.what == "films":
                pixels = camera(photograph, np.random.default_rng((args.seed, i)))
                return {"kind": "video", "scene": None, "heard": None, **see(model, pixels)}
            pixels = (photograph.permute(2, 0, 1)[None].float() / 255 - MEAN[0]) / STD[0]
            return {"kind": "image", "scene": None, "heard": None, **see(model, pixels)}

        count = args.count if args.what == "films" else min(args.count, len(order))
        write(picture, count, args.out, args.what)  # type: ignore[arg-type]
        return
    pictures, sounds = PicturePack.load(args.pictures, args.split), SoundPack.load(args.sounds, args.split)
    chances = {"stamps": 0.0} if args.split == "test" else CHANCES
    write(lambda i: clip(model, pictures, sounds, (args.seed, i), chances), args.count, args.out, "clips")  # type: ignore[arg-type]


if __name__ == "__main__":
    main()
