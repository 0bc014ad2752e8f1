"""HEIC and HEIF stills, as phones write them: one coded image, or a grid of tiles (ISO/IEC 23008-12).

meta box ──► primary item: hvc1/av01, or a grid of such ──► decoded tiles ──► joined, cropped, turned as stored

Thumbnails, depth maps and other items are skipped. An image that can't be composed is an error, never returned in part.
"""

import struct
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

import av
import av.error
import numpy as np

from ..errors import MediaError, MediaTooLarge, UnreadableMedia
from .clip import Frame
from .limits import Limits
from .source import MediaSource

_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"mif1", b"mif2", b"MiHB", b"MiHE", b"avif")
_DECODERS = {"hvc1": ("hevc", "hvcC"), "av01": ("libdav1d", "av1C")}
_MAX_META = 16 << 20  # bytes of the description
_MAX_TILES = 4096


@dataclass
class _Item:
    kind: str = ""
    method: int = 0
    extents: list[tuple[int, int]] = field(default_factory=list)
    properties: list[tuple[str, bytes]] = field(default_factory=list)
    tiles: list[int] = field(default_factory=list)

    def property(self, name: str) -> bytes | None:
        return next((data for kind, data in self.properties if kind == name), None)


_Data = Callable[[_Item], bytes]


def read_heif(source: MediaSource, limits: Limits) -> tuple[Frame, tuple[str, ...]] | None:
    """u8[H, W, 3] of a HEIF file's primary picture, upright, and notes; None if the file is no HEIF still.

    Raises:
        UnreadableMedia: corrupt, or its picture is of a kind that can't be composed. MediaTooLarge.
    """
    head = source.head(32)
    if head[4:8] != b"ftyp" or head[8:12] not in _BRANDS:
        return None
    try:
        return _read(source, limits)
    except MediaError:
        raise
    except (struct.error, IndexError, KeyError, ValueError, av.error.FFmpegError) as error:
        raise UnreadableMedia(f"{source.name} is corrupt or truncated: its HEIF picture can't be decoded.") from error


def _read(source: MediaSource, limits: Limits) -> tuple[Frame, tuple[str, ...]] | None:
    with source.reader() as read:
        meta, at = b"", 0
        while at < source.size and not meta:
            size, kind, begin = _header(read(at, 16))
            size = size or source.size - at
            if kind == "meta":
                if size > _MAX_META:
                    raise MediaTooLarge(f"{source.name}: its metadata has {size:,} bytes; the limit is {_MAX_META:,}.")
                meta = read(at + begin, size - begin)[4:]
            at += max(size, 8)
        if not meta:
            return None
        boxes = dict(_boxes(meta))
        if "pitm" not in boxes or "iinf" not in boxes:
            return None
        items, primary = _items(boxes)
        inside = boxes.get("idat", b"")

        def data(item: _Item) -> bytes:
            if item.method == 1:
                return b"".join(inside[start : start + length] for start, length in item.extents)
            return b"".join(read(start, length) for start, length in item.extents)

        frame = _picture(items, primary, data, source.name, limits)
        return _transformed(frame, items[primary]), ()


def _picture(items: Mapping[int, _Item], number: int, data: _Data, name: str, limits: Limits) -> Frame:
    item = items[number]
    if item.kind != "grid":
        return _decoded(item, data, name, limits)
    layout = data(item)
    rows, columns = layout[2] + 1, layout[3] + 1
    width, height = struct.unpack_from(">II" if layout[1] & 1 else ">HH", layout, 4)
    limits.check_pixels(width, height, name)
    if rows * columns != len(item.tiles) or len(item.tiles) > _MAX_TILES:
        raise UnreadableMedia(
            f"{name} declares a grid of {rows}x{columns} tiles, but lists {len(item.tiles)}; it is corrupt."
        )
    canvas: Frame | None = None
    for k, tile_number in enumerate(item.tiles):
        tile = _decoded(items[tile_number], data, name, limits)
        high, wide = tile.shape[:2]
        if canvas is None:
            if high * rows < height or wide * columns < width:
                raise UnreadableMedia(f"{name}: its tiles of {wide}x{high} do not cover {width}x{height} pixels.")
            canvas = np.zeros((height, width, 3), np.uint8)
        top, left = k // columns * high, k % columns * wide
        part = canvas[top : top + high, left : left + wide]
        part[:] = tile[: part.shape[0], : part.shape[1]]
    assert canvas is not None
    return canvas


def _decoded(item: _Item, data: _Data, name: str, limits: Limits) -> Frame:
    if item.kind not in _DECODERS:
        raise UnreadableMedia(
            f"{name}: its picture is a HEIF item of type {item.kind!r}; expected {', '.join(_DECODERS)} or a grid of "
            "such. Convert it, for example to JPEG."
        )
    decoder, setup = _DECODERS[item.kind]
    size = item.property("ispe")
    if size is not None:
        wide, high = struct.unpack_from(">II", size, 4)
        limits.check_pixels(wide, high, name)
    codec = av.CodecContext.create(decoder, "r")
    codec.extradata = item.property(setup)
    codec.options = {"max_pixels": str(limits.max_pixels)}
    frames = [*codec.decode(av.Packet(data(item))), *codec.decode(None)]
    if not frames:
        raise UnreadableMedia(f"{name} is corrupt or truncated: a part of its picture can't be decoded.")
    limits.check_pixels(frames[0].width, frames[0].height, name)
    rgb: Frame = frames[0].to_ndarray(format="rgb24")
    return rgb


def _transformed(frame: Frame, item: _Item) -> Frame:
    """Crop, rotation and mirror, in the order of the item's properties."""
    for kind, data in item.properties:
        if kind == "irot":
            frame = np.rot90(frame, data[0] & 3)  # counter-clockwise
        elif kind == "imir":
            frame = frame[:, ::-1] if data[0] & 1 else frame[::-1]
        elif kind == "clap":
            wn, wd, hn, hd, xn, xd, yn, yd = struct.unpack_from(">IIIIiIiI", data)
            high, wide = frame.shape[:2]
            width, height = min(wn // wd, wide), min(hn // hd, high)
            left, top = round((wide - width) / 2 + xn / xd), round((high - height) / 2 + yn / yd)
            left, top = min(max(left, 0), wide - width), min(max(top, 0), high - height)
            frame = frame[top : top + height, left : left + width] if width and height else frame
    return np.ascontiguousarray(frame)


# ── boxes ──────────────────────────────────────────────────────────────────────────────────────────────────────


def _header(data: bytes) -> tuple[int, str, int]:
    """(size of a box, 0 for the rest of the file; its type; bytes of its header)."""
    size, kind = struct.unpack_from(">I", data)[0], data[4:8].decode("latin-1")
    return (struct.unpack_from(">Q", data, 8)[0], kind, 16) if size == 1 else (size, kind, 8)


def _boxes(data: bytes) -> Iterator[tuple[str, bytes]]:
    at = 0
    while at + 8 <= len(data):
        size, kind, begin = _header(data[at : at + 16])
        size = size or len(data) - at
        if size < begin:
            raise ValueError("a box smaller than its header")
        yield kind, data[at + begin : at + size]
        at += size


def _items(boxes: Mapping[str, bytes]) -> tuple[dict[int, _Item], int]:
    items: dict[int, _Item] = {}
    pitm, iinf = boxes["pitm"], boxes["iinf"]
    primary = struct.unpack_from(">I" if pitm[0] else ">H", pitm, 4)[0]
    for kind, entry in _boxes(iinf[8 if iinf[0] else 6 :]):
        if kind == "infe" and entry[0] >= 2:
            wide = entry[0] > 2
            number = struct.unpack_from(">I" if wide else ">H", entry, 4)[0]
            items[number] = _Item(kind=entry[10 if wide else 8 :][:4].decode("latin-1"))
    _locate(boxes["iloc"], items)
    iref = boxes.get("iref", b"\0\0\0\0")
    number_format = ">I" if iref[0] else ">H"
    for kind, entry in _boxes(iref[4:]):
        step = struct.calcsize(number_format)
        number = struct.unpack_from(number_format, entry)[0]
        count = struct.unpack_from(">H", entry, step)[0]
        if kind == "dimg" and number in items:
            items[number].tiles = [
                struct.unpack_from(number_format, entry, step + 2 + k * step)[0] for k in range(count)
            ]
    parts = list(_boxes(boxes["iprp"]))
    properties = list(_boxes(next(data for kind, data in parts if kind == "ipco")))
    for kind, data in parts:
        if kind == "ipma":
            _associate(data, properties, items)
    return items, primary


def _locate(iloc: bytes, items: Mapping[int, _Item]) -> None:
    version, sizes = iloc[0], struct.unpack_from(">H", iloc, 4)[0]
    offset_size, length_size, base_size, index_size = sizes >> 12, sizes >> 8 & 15, sizes >> 4 & 15, sizes & 15
    at = 6

    def take(size: int) -> int:
        nonlocal at
        at += size
        if at > len(iloc):
            raise ValueError("places end early")
        return int.from_bytes(iloc[at - size : at])

    for _ in range(take(2 if version < 2 else 4)):
        number = take(2 if version < 2 else 4)
        method = take(2) & 15 if version else 0
        take(2)
        base = take(base_size)
        extents = []
        for _ in range(take(2)):
            take(index_size if version else 0)
            start = take(offset_size)
            extents.append((base + start, take(length_size)))
        if number in items:
            items[number].method, items[number].extents = method, extents


def _associate(ipma: bytes, properties: list[tuple[str, bytes]], items: Mapping[int, _Item]) -> None:
    wide, large = ipma[0] >= 1, bool(ipma[3] & 1)
    count, at = struct.unpack_from(">I", ipma, 4)[0], 8
    for _ in range(count):
        number = struct.unpack_from(">I" if wide else ">H", ipma, at)[0]
        at += 4 if wide else 2
        entries, at = ipma[at], at + 1
        for _ in range(entries):
            place = struct.unpack_from(">H", ipma, at)[0] & 0x7FFF if large else ipma[at] & 0x7F
            at += 2 if large else 1
            if place and number in items:
                items[number].properties.append(properties[place - 1])
