"""A composed clip is what its scene says, as frames, as sound and as a file."""

import json
from pathlib import Path

import av
import numpy as np
import pytest

from videollama2.data.composed import (
    COLOURS,
    SHAPES,
    PicturePack,
    Scene,
    Thing,
    compose,
    plural,
    render_frames,
    render_sound,
    sound_of,
    write_clip,
)
from videollama2.errors import EmptyMedia, MediaNotFound

from ..train.small import SOUND_LABELS, packs


def white_square(direction: str, start: tuple[float, float], end: tuple[float, float]) -> Scene:
    return Scene(1, 1.0, (Thing("a white square", "stamp:0", direction, start, end, (0.4, 0.4)),))


def centre_of_white(frame: np.ndarray) -> np.ndarray:
    return np.argwhere((frame > 250).all(-1)).mean(0)[::-1]


@pytest.mark.parametrize(
    ("direction", "start", "end"),
    [
        ("left", (0.7, 0.5), (0.3, 0.5)),
        ("right", (0.3, 0.5), (0.7, 0.5)),
        ("up", (0.5, 0.7), (0.5, 0.3)),
        ("down", (0.5, 0.3), (0.5, 0.7)),
    ],
)
def test_things_move_as_the_scene_says(direction: str, start: tuple[float, float], end: tuple[float, float]) -> None:
    pictures, _ = packs()
    frames = render_frames(white_square(direction, start, end), pictures, 5, 100)
    assert centre_of_white(frames[0]) == pytest.approx(np.array(start) * 100, abs=5)
    assert centre_of_white(frames[-1]) == pytest.approx(np.array(end) * 100, abs=5)


def test_directions_match_their_paths() -> None:
    pictures, _ = packs()
    steps = {"left": (-1, 0), "right": (1, 0), "up": (0, -1), "down": (0, 1), "still": (0, 0)}
    found = set()
    for seed in range(60):
        thing = compose(seed, pictures, None, two=0).things[0]
        assert tuple(np.sign(np.round(np.subtract(thing.end, thing.start), 6))) == steps[thing.direction]
        found.add(thing.direction)
    assert found == set(steps)


def test_a_seed_makes_the_same_clip() -> None:
    pictures, sounds = packs()
    first, again = (compose(5, pictures, sounds) for _ in range(2))
    assert first == again and json.loads(first.to_json())["seed"] == 5
    assert np.array_equal(render_frames(first, pictures, 2, 32), render_frames(again, pictures, 2, 32))
    assert np.array_equal(render_sound(first, sounds), render_sound(again, sounds))
    assert first != compose(6, pictures, sounds)


def test_sounds_play_when_the_scene_says() -> None:
    _, sounds = packs()
    scene = compose(3, None, sounds, two=1.0, late=0, seconds=(2.0, 2.0))
    wave = render_sound(scene, sounds)
    assert len(scene.sounds) == 2 and wave.size == 32_000
    tones = dict(zip(SOUND_LABELS, (300, 900, 2700), strict=True))
    for sound in scene.sounds:
        half = wave[int(sound.at * 32_000) : int((sound.at + sound.length) * 32_000)]
        loudest = np.abs(np.fft.rfft(half)).argmax() * 16_000 / half.size
        assert loudest == pytest.approx(tones[sound.name], abs=3)


def test_an_mp4_holds_the_picture_and_the_sound(tmp_path: Path) -> None:
    pictures, sounds = packs()
    scene = compose(1, pictures, sounds, seconds=(1.5, 1.5))
    frames, wave = render_frames(scene, pictures, 15, 64), render_sound(scene, sounds)
    write_clip(tmp_path / "clip.mp4", frames, wave, seconds=1.5)
    with av.open(str(tmp_path / "clip.mp4")) as file:
        decoded = [f.to_ndarray(format="rgb24") for f in file.decode(video=0)]
    assert len(decoded) == 15 and np.abs(decoded[7].astype(int) - frames[7]).mean() < 12
    with av.open(str(tmp_path / "clip.mp4")) as file:
        heard = np.concatenate([f.to_ndarray()[0] for f in file.decode(audio=0)])
    assert heard.size == pytest.approx(wave.size, abs=3000)
    peaks = [np.abs(np.fft.rfft(w)).argmax() / w.size for w in (heard, wave)]
    assert peaks[0] == pytest.approx(peaks[1], rel=0.02)
    with pytest.raises(EmptyMedia):
        write_clip(tmp_path / "none.mp4", None, None, seconds=1)


def test_matching_sounds_have_the_requested_frequency() -> None:
    pictures, sounds = packs()
    for chance in (0.0, 1.0):
        scenes = [compose(s, pictures, sounds, matched=chance, two=0, shapes=0, stamps=0) for s in range(60)]
        birds = [s for s in scenes if s.things[0].name == "a bird"]
        assert len(birds) > 2
        right = [s.sounds[0].name == sound_of(s.things[0].name) for s in birds]
        assert all(right) if chance else not all(right)


def test_things_are_drawn_in_their_colour_and_number() -> None:
    pictures, _ = packs()
    for colour in COLOURS:
        for count in (1, 2, 3):
            thing = Thing(
                "a circle", "shape:a circle", "still", (0.5, 0.5), (0.5, 0.5), (1.0, 1.0), (0, 1), count, colour
            )
            frame = render_frames(Scene(count, 1.0, (thing,), backdrop=3), pictures, 1, 96)[0]
            empty = render_frames(Scene(count, 1.0, (), backdrop=3), pictures, 1, 96)[0]
            drawn = np.abs(frame.astype(int) - empty).max(-1) > 12
            covered = drawn.mean()
            assert covered == pytest.approx(0.64 if count == 1 else count * 0.125, rel=0.25)
            middle = frame[np.abs(frame.astype(int) - COLOURS[colour]).max(-1) < 45]
            assert middle.size / frame.size > 0.8 * covered


def test_every_shape_fits_its_square() -> None:
    pictures, _ = packs()
    for name in SHAPES:
        alpha = pictures.texture(f"shape:{name}")[..., 3]
        assert 0.1 < (alpha > 128).mean() < 0.7 and not alpha[0, 0] and not alpha[-1, -1]


def test_plurals() -> None:
    words = {"a dog": "dogs", "a butterfly": "butterflies", "a bus": "buses", "a sheep": "sheep", "a key": "keys"}
    assert {w: plural(w) for w in words} == words


def test_the_error_of_a_missing_pack_names_the_recipe(tmp_path: Path) -> None:
    with pytest.raises(MediaNotFound, match="recipes/nano"):
        PicturePack.load(tmp_path / "none.npz", "train")
