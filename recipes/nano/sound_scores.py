"""YAMNet's scores for encoded clips: adds "sounds", f32 [periods, 521], to the items of encoded.py that have audio.

    python recipes/nano/sound_scores.py --classifier YAMNET --sounds sounds.npz --encoded OUT/encoded [--seed 400]

A clip's audio is rendered again from its scene and changed at random (as the audio tokens were, by other draws). Files
that have scores are skipped. --split test: of held-out recordings.
"""

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from encoded import scene_of
from rendering import augment_sound
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional as F

from videollama2.data.composed import SOUND_RATE_HZ, SoundPack, render_sound
from videollama2.sound_names import PROJECTORS
from videollama2.yamnet import Yamnet, log_mel

PERIODS = PROJECTORS["mlp2x_gelu_names"].periods


def classifier(folder: Path) -> Yamnet:
    """The model that sound_classifier.py wrote."""
    model = Yamnet()
    model.load_state_dict(load_file(folder / "model.safetensors"))
    return model.eval()


@torch.inference_mode()
def scores_of(model: Yamnet, wave: Tensor) -> Tensor:
    """f32[periods, 521]: the greatest scores of each period of samples f32[S]."""
    return F.adaptive_max_pool1d(model.scores(log_mel(wave)).T, PERIODS).T.contiguous()


def add_scores(item: dict[str, Any], model: Yamnet, sounds: SoundPack, seed: tuple[int, ...]) -> None:
    """Scores of a composed clip's audio; None without audio."""
    item["sounds"] = None
    if item["heard"] is None or item["scene"] is None:
        return
    rng = np.random.default_rng(seed)
    scene, speed = scene_of(item["scene"]), float(rng.uniform(0.84, 1.19))
    wave = torch.from_numpy(render_sound(replace(scene, seconds=scene.seconds * speed), sounds).copy()).float()[None]
    wave = F.interpolate(wave[:, None], size=round(scene.seconds * SOUND_RATE_HZ), mode="linear")[:, 0]
    generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
    item["sounds"] = scores_of(model, augment_sound(wave, generator)[0])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("classifier", "sounds", "encoded"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=400)
    parser.add_argument("--split", default="train")
    args = parser.parse_args()
    model, sounds = classifier(args.classifier), SoundPack.load(args.sounds, args.split)
    for number, path in enumerate(sorted(args.encoded.glob("clips-*.pt"))):
        items = torch.load(path)
        if "sounds" in items[0]:
            continue
        for i, item in enumerate(items):
            add_scores(item, model, sounds, (args.seed, number, i))
        torch.save(items, path.with_suffix(".part"))
        path.with_suffix(".part").replace(path)
        print(f"{path}: {sum(item['sounds'] is not None for item in items)} with audio", flush=True)


if __name__ == "__main__":
    main()
