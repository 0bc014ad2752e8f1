"""Decode sound files and archives, and render notes, to waves."""

import struct
import subprocess
import tempfile
import zlib
from pathlib import Path

import av
import numpy as np

RATE = 16_000


def decode(path: Path) -> np.ndarray:
    """Mono float32 at 16 kHz, with silence trimmed at both ends."""
    pieces = []
    with av.open(str(path)) as file:
        resampler = av.AudioResampler("flt", "mono", RATE)
        for frame in file.decode(audio=0):
            pieces += [f.to_ndarray()[0] for f in resampler.resample(frame)]
        pieces += [f.to_ndarray()[0] for f in resampler.resample(None)]
    wave = np.concatenate(pieces) if pieces else np.zeros(0, np.float32)
    loud = np.flatnonzero(np.abs(wave) > 0.01 * max(np.abs(wave).max(initial=0.0), 1e-4))
    return wave[loud[0] : loud[-1] + 1] if loud.size else wave[:0]


def decode_bytes(content: bytes, suffix: str) -> np.ndarray:
    """Decode a file's content; `suffix` is its name's."""
    with tempfile.NamedTemporaryFile(suffix=suffix) as file:
        Path(file.name).write_bytes(content)
        return decode(Path(file.name))


def fluidsynth(bank: Path) -> list[str]:
    """The command line of fluidsynth with a soundfont, for `render`."""
    return ["fluidsynth", "-ni", "-g", "0.6", "-r", str(RATE), "-F", "{wav}", str(bank), "{midi}"]


def render(synth: list[str], song: bytes) -> np.ndarray:
    """Render a MIDI file by `synth`, a command line with {midi} and {wav} for the files."""
    with tempfile.TemporaryDirectory() as folder:
        score, sound = Path(folder) / "song.mid", Path(folder) / "song.wav"
        score.write_bytes(song)
        command = [part.format(midi=score, wav=sound) for part in synth]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        return decode(sound)


def qt_resources(archive: bytes):
    """(path, bytes) of every stored or zlib-packed file in a Qt binary resource archive."""
    version, tree, data, names = struct.unpack(">IIII", archive[4:20])
    size = 22 if version >= 2 else 14

    def walk(index: int, prefix: str):
        at = tree + index * size
        name_at, flags = struct.unpack(">IH", archive[at : at + 6])
        length = struct.unpack(">H", archive[names + name_at : names + name_at + 2])[0]
        raw = archive[names + name_at + 6 : names + name_at + 6 + 2 * length]
        path = prefix + (raw.decode("utf-16-be") if index else "")
        if flags & 2:
            count, first = struct.unpack(">II", archive[at + 6 : at + 14])
            for child in range(first, first + count):
                yield from walk(child, path + "/" if path else "")
        elif not flags & 4:
            start = data + struct.unpack(">I", archive[at + 10 : at + 14])[0]
            length = struct.unpack(">I", archive[start : start + 4])[0]
            content = archive[start + 4 : start + 4 + length]
            yield path, zlib.decompress(content[4:]) if flags & 1 else content

    yield from walk(0, "")
