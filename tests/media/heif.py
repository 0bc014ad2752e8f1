"""HEIC files with known contents, written box by box."""

import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import av
import numpy as np


def box(kind: str, *parts: bytes) -> bytes:
    """A box of ISO/IEC 14496-12."""
    return struct.pack(">I4s", 8 + sum(map(len, parts)), kind.encode()) + b"".join(parts)


def full_box(kind: str, *parts: bytes, version: int = 0, flags: int = 0) -> bytes:
    """A box with a version and flags."""
    return box(kind, struct.pack(">I", version << 24 | flags), *parts)


def coded(picture: np.ndarray) -> tuple[bytes, bytes]:
    """A picture as HEVC: its hvcC and its data, with lengths before the units."""
    codec = av.CodecContext.create("libx265", "w")
    codec.options = {"x265-params": "log-level=none:qp=4:frame-threads=1:pools=none"}
    codec.height, codec.width, codec.pix_fmt, codec.time_base = *picture.shape[:2], "yuv444p", Fraction(1, 25)
    frame = av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format="yuv444p")
    frame.pts, frame.time_base = 0, Fraction(1, 25)
    stream = b"".join(bytes(packet) for packet in [*codec.encode(frame), *codec.encode(None)])
    units = [unit.rstrip(b"\0") for unit in stream.split(b"\0\0\1")[1:]]
    sets = [unit for unit in units if unit[0] >> 1 in (32, 33, 34)]
    arrays = [struct.pack(">BHH", unit[0] >> 1, 1, len(unit)) + unit for unit in sets]
    slices = [struct.pack(">I", len(unit)) + unit for unit in units if unit[0] >> 1 < 32]
    return b"\1" + bytes(20) + bytes([3, len(arrays)]) + b"".join(arrays), b"".join(slices)


@dataclass
class WrittenItem:
    """An item: coded data in mdat, or a derivation in idat; `refs`: (kind of reference, numbers of items from 1)."""

    kind: str
    data: bytes = b""
    properties: Sequence[bytes] = ()
    refs: Sequence[tuple[str, Sequence[int]]] = ()
    hidden: bool = False
    inside: bool = field(init=False)

    def __post_init__(self) -> None:
        self.inside = self.kind in ("grid", "iovl", "iden")


def picture_item(picture: np.ndarray, *properties: bytes, hidden: bool = False) -> WrittenItem:
    """A coded picture."""
    setup, data = coded(picture)
    shape = full_box("ispe", struct.pack(">II", picture.shape[1], picture.shape[0]))
    return WrittenItem("hvc1", data, [box("hvcC", setup), shape, *properties], hidden=hidden)


def write_heif(path: Path, items: Sequence[WrittenItem], primary: int) -> Path:
    """A HEIF file; items are numbered from 1."""
    entries = [
        full_box("infe", struct.pack(">HH4s", n, 0, item.kind.encode()), b"\0", version=2, flags=int(item.hidden))
        for n, item in enumerate(items, 1)
    ]
    references = [
        box(kind, struct.pack(f">HH{len(to)}H", n, len(to), *to)) for n, i in enumerate(items, 1) for kind, to in i.refs
    ]
    everything = [prop for item in items for prop in item.properties]
    uses, at = [], 0
    for n, item in enumerate(items, 1):
        numbers = range(at + 1, at + 1 + len(item.properties))
        uses.append(struct.pack(">HB", n, len(numbers)) + bytes(numbers))
        at += len(numbers)
    ipma = full_box("ipma", struct.pack(">I", len(uses)), *uses)
    ftyp = box("ftyp", b"heic\0\0\0\0mif1heic")

    def meta(start: int) -> bytes:
        rows, outside, inside = [], start, 0
        for n, item in enumerate(items, 1):
            place = inside if item.inside else outside
            rows.append(struct.pack(">HHHHII", n, int(item.inside), 0, 1, place, len(item.data)))
            inside += len(item.data) * item.inside
            outside += len(item.data) * (not item.inside)
        return full_box(
            "meta",
            full_box("pitm", struct.pack(">H", primary)),
            full_box("iinf", struct.pack(">H", len(entries)), *entries),
            full_box("iref", *references),
            box("iprp", box("ipco", *everything), ipma),
            box("idat", *(item.data for item in items if item.inside)),
            full_box("iloc", struct.pack(">HH", 0x4400, len(rows)), *rows, version=1),
        )

    head = ftyp + meta(0)
    path.write_bytes(ftyp + meta(len(head) + 8) + box("mdat", *(item.data for item in items if not item.inside)))
    return path


def write_grid(
    path: Path, picture: np.ndarray, *, tile: int = 0, turned: bytes = b"", kind: str = "grid", lacks: int = 0
) -> Path:
    """One picture, or a grid of tiles; `turned`: a property such as irot of the whole."""
    own = [turned] if turned else []
    height, width = picture.shape[:2]
    if not tile:
        return write_heif(path, [picture_item(picture, *own)], 1)
    items = []
    for y in range(0, height, tile):
        for x in range(0, width, tile):
            piece = np.zeros((tile, tile, 3), np.uint8)
            cut = picture[y : y + tile, x : x + tile]
            piece[: cut.shape[0], : cut.shape[1]] = cut
            items.append(picture_item(piece, hidden=True))
    layout = struct.pack(">BBBBHH", 0, 0, -(-height // tile) - 1, -(-width // tile) - 1, width, height)
    numbers = range(1, len(items) + 1 - lacks)
    items.append(WrittenItem(kind, layout, own, [("dimg", numbers)]))
    items[-1].inside = True
    return write_heif(path, items, len(items))
