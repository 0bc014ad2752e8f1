"""A sound pack from formulas: thirteen of nano's classes, synthesised without recordings.

    NOISES[name](rng, seconds) ──► wave f32[S], 16 kHz;  tones() ──► SoundPack, several different ones of each

They are crude compared with recordings, so results on them say little about results on real sounds.
"""

from collections.abc import Callable
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from .clips import SOUND_RATE_HZ
from .packs import SoundPack

Wave = NDArray[np.float64]
Random = np.random.Generator

_SCALE = (0, 2, 4, 5, 7, 9, 11, 12)  # semitones of a major scale
_LOUD = 0.5  # highest value of each recording


@lru_cache(maxsize=2)
def tones(each: int = 3, seconds: float = 5.0, seed: int = 0) -> SoundPack:
    """`each` recordings of every class; equal arguments give equal samples."""
    pieces: list[NDArray[np.int16]] = []
    index: list[tuple[str, int, int]] = []
    at = 0
    for number, (name, noise) in enumerate(NOISES.items()):
        for k in range(each):
            wave = noise(np.random.default_rng((seed, number, k)), seconds)
            pieces.append((wave / np.abs(wave).max() * _LOUD * 32767).astype(np.int16))
            index.append((name, at, at + wave.size))
            at += wave.size
    return SoundPack.of(np.concatenate(pieces), index)


def _clock(seconds: float) -> Wave:
    return np.arange(round(seconds * SOUND_RATE_HZ)) / SOUND_RATE_HZ


def _melody(
    rng: Random,
    seconds: float,
    voice: Callable[[Random, float, float], Wave],
    *,
    lowest_hz: float,
    lengths: tuple[float, float] = (0.25, 0.6),
    rings: float = 0.0,
) -> Wave:
    """Notes of a major scale in turn, each `voice(rng, hz, seconds)`; with `rings`, notes ring on."""
    out = np.zeros(round((seconds + rings + 2 * lengths[1]) * SOUND_RATE_HZ))
    at, key = 0.0, lowest_hz * 2 ** (float(rng.integers(12)) / 12)
    while at < seconds:
        length = float(rng.uniform(*lengths))
        note = voice(rng, key * 2 ** (int(rng.choice(_SCALE)) / 12), length + rings)
        begin = round(at * SOUND_RATE_HZ)
        out[begin : begin + note.size] += note * rng.uniform(0.6, 1.0)
        at += length
    return out[: round(seconds * SOUND_RATE_HZ)]


def _partials(hz: float, clock: Wave, partials: dict[float, float], phase: Wave | float = 0.0) -> Wave:
    """A sum of sines at multiples of `hz` below half the rate; `phase`, in cycles of the lowest, modulates all."""
    heard = {n: level for n, level in partials.items() if n * hz < 0.45 * SOUND_RATE_HZ}
    turns = 2 * np.pi * (hz * clock + phase)
    return np.asarray(sum(level * np.sin(n * turns) for n, level in heard.items()), dtype=np.float64)


def _held(clock: Wave, attack: float, release: float) -> Wave:
    """An envelope that rises for `attack` seconds, holds, and falls for the last `release` seconds."""
    return np.clip(np.minimum(clock / attack, (clock[-1] - clock) / release), 0, 1)


def _band(rng: Random, samples: int, low_hz: float, high_hz: float) -> Wave:
    """Noise between two frequencies."""
    spectrum = np.fft.rfft(rng.standard_normal(samples))
    hz = np.fft.rfftfreq(samples, 1 / SOUND_RATE_HZ)
    spectrum[(hz < low_hz) | (hz > high_hz)] = 0
    wave = np.fft.irfft(spectrum, samples)
    return np.asarray(wave / wave.std(), dtype=np.float64)


def _organ_note(rng: Random, hz: float, seconds: float) -> Wave:
    clock = _clock(seconds)
    pipes = {0.5: 0.5, 1.0: 1.0, 1.5: 0.3, 2.0: 0.8, 3.0: 0.4, 4.0: 0.5, 6.0: 0.2, 8.0: 0.25}
    return (_partials(hz, clock, pipes) + _partials(hz * 1.5, clock, pipes)) * _held(clock, 0.03, 0.05)


def _xylophone_note(rng: Random, hz: float, seconds: float) -> Wave:
    clock = _clock(seconds)
    bar = sum(level * np.exp(-clock / decay) * _partials(hz, clock, {n: 1.0})
              for n, level, decay in ((1.0, 1.0, 0.12), (3.0, 0.5, 0.05), (6.2, 0.25, 0.02)))  # fmt: skip
    knock = _band(rng, clock.size, 800, 6000) * np.exp(-clock / 0.004)
    return np.asarray(bar + 0.2 * knock)


def _bell_note(rng: Random, hz: float, seconds: float) -> Wave:
    clock = _clock(seconds)
    body = ((0.5, 0.6, 1.6), (1.0, 1.0, 1.1), (1.19, 0.7, 0.9), (1.5, 0.4, 0.7), (2.0, 0.6, 0.6), (2.74, 0.3, 0.4),
            (3.76, 0.25, 0.25), (5.1, 0.15, 0.15))  # fmt: skip
    return np.asarray(sum(a * np.exp(-clock / d) * _partials(hz, clock, {n: 1.0}) for n, a, d in body))


def _flute_note(rng: Random, hz: float, seconds: float) -> Wave:
    clock = _clock(seconds)
    shake = 0.06 * np.sin(2 * np.pi * 5 * clock)
    tone = _partials(hz, clock, {1.0: 1.0, 2.0: 0.25, 3.0: 0.08}, shake)
    return (tone + 0.04 * _band(rng, clock.size, hz, 4 * hz)) * _held(clock, 0.07, 0.06)


def _trumpet_note(rng: Random, hz: float, seconds: float) -> Wave:
    clock = _clock(seconds)
    soft = _partials(hz, clock, {float(n): n**-1.6 for n in range(1, 15)})
    bright = _partials(hz, clock, {float(n): n**-0.6 for n in range(1, 15)})
    opening = np.clip(clock / 0.06, 0, 1) ** 2
    return (soft * (1 - opening) + bright * opening) * _held(clock, 0.03, 0.05)


def _violin_note(rng: Random, hz: float, seconds: float) -> Wave:
    clock = _clock(seconds)
    shake = 0.12 * np.sin(2 * np.pi * 6 * clock) * np.clip(clock / 0.2, 0, 1)
    body = {float(n): (1.0 + 1.5 * np.exp(-((n * hz - 2500) ** 2) / 2e6)) / n for n in range(1, 20)}
    return _partials(hz, clock, body, shake) * _held(clock, 0.1, 0.08)


def _guitar_note(rng: Random, hz: float, seconds: float) -> Wave:
    """A plucked string: noise in a loop of one period, low-pass filtered at each turn (Karplus, Strong 1983)."""
    period = round(SOUND_RATE_HZ / hz)
    turn = _band(rng, period, 0, 5000)
    turns = [turn]
    for _ in range(round(seconds * SOUND_RATE_HZ) // period + 1):
        turn = 0.996 * 0.5 * (turn + np.roll(turn, 1))
        turns.append(turn)
    return np.concatenate(turns)[: round(seconds * SOUND_RATE_HZ)] * _held(_clock(seconds), 0.002, 0.05)


def _piano_note(rng: Random, hz: float, seconds: float) -> Wave:
    clock = _clock(seconds)
    string = (
        np.exp(-clock * (0.8 + 0.5 * n)) * n**-1.2 * _partials(hz, clock, {n * (1 + 0.0004 * n * n) ** 0.5: 1.0})
        for n in range(1, 11)
    )
    hammer = _band(rng, clock.size, 100, 2000) * np.exp(-clock / 0.008)
    return np.asarray((sum(string) + 0.15 * hammer) * _held(clock, 0.004, 0.05))


def _siren(rng: Random, seconds: float) -> Wave:
    clock = _clock(seconds)
    low, high, rate = rng.uniform(400, 600), rng.uniform(1000, 1400), rng.uniform(0.25, 0.6)
    hz = low + (high - low) * (0.5 - 0.5 * np.cos(2 * np.pi * rate * clock))
    turns = np.cumsum(hz) / SOUND_RATE_HZ
    return np.asarray(sum(np.sin(2 * np.pi * n * turns) / n for n in (1, 2, 3, 4)))


def _drums(rng: Random, seconds: float) -> Wave:
    """Bass drum, snare and cymbal in bars of eight."""
    beat, out = 60 / rng.uniform(90, 140) / 2, np.zeros(round((seconds + 1) * SOUND_RATE_HZ))
    clock = _clock(0.4)
    bass = np.sin(2 * np.pi * (50 * clock + 6 * (1 - np.exp(-clock / 0.04)))) * np.exp(-clock / 0.12)
    bars = {0: bass, 4: bass, 3: bass} if rng.random() < 0.5 else {0: bass, 4: bass}
    for step in range(int(seconds / beat) + 1):
        hits = [0.25 * _band(rng, clock.size, 5000, 7900) * np.exp(-clock / 0.03)]
        hits += [bars[step % 8]] if step % 8 in bars else []
        if step % 4 == 2:
            snare = _band(rng, clock.size, 800, 7000) * np.exp(-clock / 0.08)
            hits.append(0.4 * snare + 0.4 * np.sin(2 * np.pi * 190 * clock) * np.exp(-clock / 0.06))
        begin = round(step * beat * SOUND_RATE_HZ)
        for hit in hits:
            end = min(out.size, begin + hit.size)
            out[begin:end] += hit[: end - begin]
    return out[: round(seconds * SOUND_RATE_HZ)]


def _telephone(rng: Random, seconds: float) -> Wave:
    """A bell struck twenty times a second, for a second at a time."""
    clock = _clock(seconds)
    first, second = rng.uniform(1200, 1500), rng.uniform(1600, 1900)
    struck = (clock * 20) % 1
    tone = np.where((clock * 10) % 1 < 0.5, np.sin(2 * np.pi * first * clock), np.sin(2 * np.pi * second * clock))
    return np.asarray(tone * np.exp(-3 * struck) * ((clock + rng.random()) % 2 < 1.2))


def _rain(rng: Random, seconds: float) -> Wave:
    samples = round(seconds * SOUND_RATE_HZ)
    drops = _band(rng, samples, 2000, 7000) * (rng.random(samples) < rng.uniform(0.002, 0.01)) * 3
    return _band(rng, samples, 500, 7800) * 0.5 + drops


def _waves(rng: Random, seconds: float) -> Wave:
    clock = _clock(seconds)
    swell = (0.5 - 0.5 * np.cos(2 * np.pi * (clock * rng.uniform(0.2, 0.35) + rng.random()))) ** 2
    return (0.15 + swell) * _band(rng, clock.size, 80, 2500) + 0.3 * swell * _band(rng, clock.size, 2500, 6000)


NOISES: dict[str, Callable[[Random, float], Wave]] = {
    "a flute": lambda rng, s: _melody(rng, s, _flute_note, lowest_hz=440),
    "a guitar": lambda rng, s: _melody(rng, s, _guitar_note, lowest_hz=110, rings=0.6),
    "a piano": lambda rng, s: _melody(rng, s, _piano_note, lowest_hz=150, rings=0.5),
    "a siren": _siren,
    "a telephone": _telephone,
    "a trumpet": lambda rng, s: _melody(rng, s, _trumpet_note, lowest_hz=220),
    "a violin": lambda rng, s: _melody(rng, s, _violin_note, lowest_hz=200, lengths=(0.35, 0.9)),
    "a xylophone": lambda rng, s: _melody(rng, s, _xylophone_note, lowest_hz=500, lengths=(0.15, 0.35), rings=0.3),
    "an organ": lambda rng, s: _melody(rng, s, _organ_note, lowest_hz=130, lengths=(0.4, 0.9)),
    "bells": lambda rng, s: _melody(rng, s, _bell_note, lowest_hz=350, lengths=(0.5, 1.0), rings=1.5),
    "drums": _drums,
    "rain": _rain,
    "waves": _waves,
}
"""Name of a class (nano/sound_classes.json) → function that synthesises it."""
