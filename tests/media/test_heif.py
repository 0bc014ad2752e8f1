"""HEIC stills: one picture, tiles, overlays and copies; turned, in other colours; and what the notes report."""

import struct
from pathlib import Path

import numpy as np
import pytest

from videollama2.errors import UnreadableMedia
from videollama2.media import open_clip

from .heif import WrittenItem, box, full_box, picture_item, write_grid, write_heif
from .test_appearance import corners, seen
from .test_image_rgb import p3_profile, p3_to_srgb

ORDER = ["red", "green", "blue", "white"]


def nclx(primaries: int, transfer: int, matrix: int, *, full: bool) -> bytes:
    return box("colr", b"nclx", struct.pack(">HHHB", primaries, transfer, matrix, full << 7))


def test_one_picture_and_tiles(tmp_path: Path) -> None:
    for tile in (0, 64):
        clip = open_clip(write_grid(tmp_path / "a.heic", corners(160, 96), tile=tile), protocol="full")
        assert clip.kind == "image" and clip.frames[0].shape == (96, 160, 3) and clip.notes == ()
        assert seen(clip.frames[0]) == ORDER
    assert seen(open_clip([tmp_path / "a.heic"], protocol="full").frames[0]) == ORDER


@pytest.mark.parametrize(
    ("turned", "expected"),
    [
        (box("irot", b"\1"), "green white red blue"),
        (box("irot", b"\2"), "white blue green red"),
        (box("imir", b"\1"), "green red white blue"),
        (box("imir", b"\0"), "blue white red green"),
    ],
)
@pytest.mark.parametrize("tile", [0, 64])
def test_turned_as_stored(tmp_path: Path, turned: bytes, expected: str, tile: int) -> None:
    frame = open_clip(write_grid(tmp_path / "a.heic", corners(), tile=tile, turned=turned), protocol="full").frames[0]
    assert " ".join(seen(frame)) == expected


def test_an_identity_turns_its_source(tmp_path: Path) -> None:
    items = [
        picture_item(corners(), box("imir", b"\1"), hidden=True),
        WrittenItem("iden", properties=[box("irot", b"\2")], refs=[("dimg", [1])]),
    ]
    clip = open_clip(write_heif(tmp_path / "a.heic", items, 2), protocol="full")
    assert " ".join(seen(clip.frames[0])) == "blue white red green" and clip.notes == ()


def test_an_overlay(tmp_path: Path) -> None:
    """Two pictures on a green canvas, one of them partly outside."""
    red, blue = (np.full((64, 64, 3), colour, np.uint8) for colour in ((255, 0, 0), (0, 0, 255)))
    for opaque, wide in ((65535, False), (0, True)):
        layout = struct.pack(">BB4H", 0, wide, 0, 65535, 0, opaque)
        layout += struct.pack(">II4i" if wide else ">HH4h", 160, 100, 10, 20, 130, -30)
        items = [
            picture_item(red, hidden=True),
            picture_item(blue, hidden=True),
            WrittenItem("iovl", layout, refs=[("dimg", [1, 2])]),
        ]
        clip = open_clip(write_heif(tmp_path / "a.heic", items, 3), protocol="full")
        frame = clip.frames[0]
        assert frame.shape == (100, 160, 3)
        for (y, x), place in (
            ((50, 5), 1),
            ((50, 40), 0),
            ((86, 73), 1),
            ((10, 135), 2),
            ((30, 159), 2),
            ((40, 135), 1),
        ):
            assert int(frame[y, x].argmax()) == place, (y, x)
        assert clip.notes == (() if opaque else ("the image is partly transparent; transparency is ignored",))


def test_other_images_are_reported(tmp_path: Path) -> None:
    items = [
        picture_item(corners()),
        picture_item(corners()),
        picture_item(corners(64, 64)),
        picture_item(corners(), full_box("auxC", b"urn:mpeg:mpegB:cicp:systems:auxiliary:alpha\0")),
    ]
    items[2].refs, items[3].refs = [("thmb", [1])], [("auxl", [1])]
    notes = open_clip(write_heif(tmp_path / "a.heic", items, 1), protocol="full").notes
    assert notes == (
        "the primary one of 2 images is used; 1 other image is not",
        "the image is partly transparent; transparency is ignored",
    )


def test_colours_as_the_item_states_them(tmp_path: Path) -> None:
    """The bitstream has no tags; its numbers are BT.601 in limited range."""
    rgb = np.full((64, 64, 3), (200, 90, 40), np.uint8)
    plain = open_clip(write_heif(tmp_path / "a.heic", [picture_item(rgb)], 1), protocol="full").frames[0][9, 9]
    assert np.abs(plain.astype(int) - (200, 90, 40)).max() <= 3
    other = write_heif(tmp_path / "b.heic", [picture_item(rgb, nclx(1, 13, 1, full=False))], 1)
    pixel = open_clip(other, protocol="full").frames[0][9, 9].astype(int)
    y = 0.299 * 200 + 0.587 * 90 + 0.114 * 40
    cb, cr = (40 - y) / 1.772, (200 - y) / 1.402
    expected = (y + 1.5748 * cr, y - 0.1873 * cb - 0.4681 * cr, y + 1.8556 * cb)
    assert np.abs(pixel - expected).max() <= 4
    wide = write_heif(tmp_path / "c.heic", [picture_item(rgb, nclx(12, 13, 6, full=False))], 1)
    clip = open_clip(wide, protocol="full")
    assert clip.notes == ("its colours (P3) are converted to sRGB",) and clip.frames[0][9, 9, 0] > 210


def test_a_colour_profile(tmp_path: Path) -> None:
    """As iPhones write it: Display P3, for the grid and its tiles."""
    profile = box("colr", b"prof", p3_profile())
    path = write_grid(tmp_path / "a.heic", np.full((96, 128, 3), (200, 90, 40), np.uint8), tile=64, turned=profile)
    clip = open_clip(path, protocol="full")
    assert clip.notes == ("its colours (Display P3) are converted to sRGB",)
    assert np.abs(clip.frames[0][50, 50] - p3_to_srgb((200, 90, 40))).max() <= 3
    released = open_clip(path, protocol="released")
    assert released.notes[0] == "its colour profile (Display P3) is not applied"
    assert np.abs(released.frames[0][50, 50].astype(int) - (200, 90, 40)).max() <= 3


def test_what_can_not_be_composed_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnreadableMedia, match="a HEIF item of type 'mski'"):
        open_clip(write_grid(tmp_path / "a.heic", corners(), tile=64, kind="mski"))
    with pytest.raises(UnreadableMedia, match="a grid of 2x2 tiles, but lists 3"):
        open_clip(write_grid(tmp_path / "b.heic", corners(), tile=64, lacks=1))
    whole = write_grid(tmp_path / "c.heic", corners(), tile=64).read_bytes()
    for length in (40, 200, len(whole) - 60):
        (tmp_path / "d.heic").write_bytes(whole[:length])
        with pytest.raises(UnreadableMedia):
            open_clip(tmp_path / "d.heic")
    circle = [WrittenItem("iden", refs=[("dimg", [2])]), WrittenItem("iden", refs=[("dimg", [1])])]
    with pytest.raises(UnreadableMedia, match="nested more than"):
        open_clip(write_heif(tmp_path / "e.heic", circle, 1))
