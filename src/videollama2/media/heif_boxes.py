"""The boxes of a HEIF file that describe its images (ISO/IEC 14496-12, 23008-12)."""

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from ..errors import MediaTooLarge
from .source import MediaSource

_MAX_META = 16 << 20  # bytes of the description


@dataclass
class HeifItem:
    """One image or other item of the file.

    kind        hvc1, av01: coded; grid, iovl, iden: made of others; Exif, mime …: no image
    method      of its data: 0: extents of the file, 1: of `Description.inside`
    parts       numbers of the items that it is made of
    of          kinds of references from it: thmb, auxl …
    hidden      not shown alone
    """

    kind: str = ""
    method: int = 0
    extents: list[tuple[int, int]] = field(default_factory=list)
    properties: list[tuple[str, bytes]] = field(default_factory=list)
    parts: list[int] = field(default_factory=list)
    of: set[str] = field(default_factory=set)
    hidden: bool = False

    def property(self, name: str) -> bytes | None:
        """The content of its first property of a type."""
        return next((data for kind, data in self.properties if kind == name), None)


@dataclass(frozen=True)
class Description:
    """All items by their numbers, the number of the primary one, and data kept inside the description."""

    items: Mapping[int, HeifItem]
    primary: int
    inside: bytes


def read_description(source: MediaSource) -> Description | None:
    """The items of a file; None if it describes no images.

    Raises:
        MediaTooLarge. struct.error, IndexError, KeyError, ValueError: it is corrupt.
    """
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
    boxes = dict(_boxes(meta))
    if "pitm" not in boxes or "iinf" not in boxes:
        return None
    items, primary = _items(boxes)
    return Description(items, primary, boxes.get("idat", b""))


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


def _items(boxes: Mapping[str, bytes]) -> tuple[dict[int, HeifItem], int]:
    items: dict[int, HeifItem] = {}
    pitm, iinf = boxes["pitm"], boxes["iinf"]
    primary = struct.unpack_from(">I" if pitm[0] else ">H", pitm, 4)[0]
    for kind, entry in _boxes(iinf[8 if iinf[0] else 6 :]):
        if kind == "infe" and entry[0] >= 2:
            wide = entry[0] > 2
            number = struct.unpack_from(">I" if wide else ">H", entry, 4)[0]
            kind = entry[10 if wide else 8 :][:4].decode("latin-1")
            items[number] = HeifItem(kind, hidden=bool(entry[3] & 1))
    _locate(boxes["iloc"], items)
    iref = boxes.get("iref", b"\0\0\0\0")
    number_format = ">I" if iref[0] else ">H"
    for kind, entry in _boxes(iref[4:]):
        step = struct.calcsize(number_format)
        number = struct.unpack_from(number_format, entry)[0]
        count = struct.unpack_from(">H", entry, step)[0]
        if number in items:
            items[number].of.add(kind)
        if kind == "dimg" and number in items:
            items[number].parts = [
                struct.unpack_from(number_format, entry, step + 2 + k * step)[0] for k in range(count)
            ]
    parts = list(_boxes(boxes["iprp"]))
    properties = list(_boxes(next(data for kind, data in parts if kind == "ipco")))
    for kind, data in parts:
        if kind == "ipma":
            _associate(data, properties, items)
    return items, primary


def _locate(iloc: bytes, items: Mapping[int, HeifItem]) -> None:
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


def _associate(ipma: bytes, properties: list[tuple[str, bytes]], items: Mapping[int, HeifItem]) -> None:
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
