"""Which packets no other picture depends on: they needn't be decoded unless their own picture is wanted.

h264    nal_ref_idc is 0 in the first slice (ITU-T H.264 §7.4.1)
hevc    a sub-layer non-reference picture of the highest temporal sub-layer (ITU-T H.265 §7.4.2.2)
av1     refresh_frame_flags is 0 in every frame of the temporal unit (AV1 specification §5.9.2)

Of vp8 and vp9 none can be told: each frame also hands on probabilities and motion vectors. Streams without a header
before their packets (transport streams, raw ones) are decoded whole.
"""

from collections.abc import Callable, Iterator
from typing import Any, Final

IsUnreferenced = Callable[[Any], bool]
"""Whether a packet (anything with a buffer) holds only pictures to which no other refers."""

_HEVC_SLICES: Final = 32  # NAL unit types below are slices
_HEVC_SPS: Final = 33
_SEQUENCE, _FRAME_HEADER, _FRAME, _REDUNDANT_HEADER = 1, 3, 6, 7  # OBU types
_INTRA_ONLY, _SWITCH = 2, 3  # frame types of AV1; 0: key
_SELECT = 2  # "chosen per frame"


def unreferenced(codec: Any) -> IsUnreferenced | None:
    """The test for packets of a stream with this codec context; None if they can't be told."""
    extra = bytes(codec.extradata or b"")
    if len(extra) > 6 and extra[0] == 1 and codec.name == "h264":
        return _H264((extra[4] & 3) + 1)
    if len(extra) > 23 and extra[0] == 1 and codec.name == "hevc":
        return _Hevc((extra[21] & 3) + 1, extra)
    if len(extra) > 4 and extra[0] == 0x81 and codec.name in ("av1", "libdav1d", "libaom-av1"):
        return _av1(extra[4:])
    return None


def _units(data: memoryview, prefix: int) -> Iterator[int]:
    """Where the NAL units of a packet begin, after length fields of `prefix` bytes."""
    at = 0
    while at + prefix < len(data):
        yield at + prefix
        at += prefix + int.from_bytes(data[at : at + prefix], "big")


class _H264:
    def __init__(self, prefix: int) -> None:
        self._prefix = prefix

    def __call__(self, packet: Any) -> bool:
        data = memoryview(packet)
        for at in _units(data, self._prefix):
            if data[at] & 31 in (1, 5):  # a slice, not parameters or metadata
                return data[at] & 0x60 == 0
        return False


class _Hevc:
    def __init__(self, prefix: int, extra: bytes) -> None:
        self._prefix, self._layers = prefix, 0
        at = 23
        for _ in range(extra[22]):  # arrays of parameter sets: type, number of units, units with lengths of two bytes
            count, at = int.from_bytes(extra[at + 1 : at + 3]), at + 3
            for _ in range(count):
                length = int.from_bytes(extra[at : at + 2])
                self._see(extra[at + 2 : at + 5])
                at += 2 + length

    def _see(self, unit: bytes | memoryview) -> None:
        """Take the highest number of temporal sub-layers of any sequence parameter set."""
        if len(unit) > 2 and unit[0] >> 1 & 63 == _HEVC_SPS:
            self._layers = max(self._layers, (unit[2] >> 1 & 7) + 1)

    def __call__(self, packet: Any) -> bool:
        data = memoryview(packet)
        for at in _units(data, self._prefix):
            kind = data[at] >> 1 & 63
            if kind < _HEVC_SLICES:  # even types below 16 are not referred to within their sub-layer
                return kind < 16 and kind % 2 == 0 and at + 1 < len(data) and data[at + 1] & 7 == self._layers
            self._see(data[at : at + 3])
        return False


class _Bits:
    """A reader of bits, most significant first; zeros after the end."""

    def __init__(self, data: bytes | memoryview) -> None:
        self._value, self._left = int.from_bytes(data), 8 * len(data)

    def __call__(self, count: int = 1) -> int:
        self._left -= count
        if self._left < 0:
            raise ValueError("the header ends early")
        return (self._value >> self._left) & ((1 << count) - 1)


def _obus(data: bytes | memoryview) -> Iterator[tuple[int, bool, int, int]]:
    """(type, is of a layer, start, end) of each open bitstream unit."""
    at = 0
    while at < len(data):
        head, at = data[at], at + 1
        layered = head >> 2 & 1
        at += layered
        size = len(data) - at
        if head >> 1 & 1:
            size, shift = 0, 0
            while True:
                byte, at = data[at], at + 1
                size, shift = size | (byte & 127) << shift, shift + 7
                if byte < 128:
                    break
        yield head >> 3 & 15, bool(layered), at, at + size
        at += size


def _av1(units: bytes) -> "_Av1 | None":
    try:
        for kind, _, start, end in _obus(units):
            if kind == _SEQUENCE:
                return _Av1(_Bits(units[start:end]))
    except (ValueError, IndexError):
        return None
    return None


class _Av1:
    """Reads frame headers as far as refresh_frame_flags, by what the sequence header declares."""

    def __init__(self, read: _Bits) -> None:
        """`read`: the sequence header (§5.5).

        Raises:
            ValueError: streams of stills, or with a decoder model, whose headers are longer.
        """
        read(3)
        if read(2) & 1:
            raise ValueError("a still picture")
        if read():  # timing
            read(64)
            if read() or read():
                raise ValueError("an equal picture interval or a decoder model")
        delay = read()
        for _ in range(read(5) + 1):
            read(12)
            if read(5) > 7:
                read()
            if delay and read():
                read(4)
        widths = read(4) + 1, read(4) + 1
        read(sum(widths))
        self._id_bits = 0
        if read():
            delta = read(4) + 2
            self._id_bits = delta + read(3) + 1
        read(7)  # block size, intra filters, four tools of inter prediction
        self._order_bits = 0
        ordered = read()
        if ordered:
            read(2)
        self._screen = _SELECT if read() else read()
        self._integer = _SELECT
        if self._screen and not read():
            self._integer = read()
        if ordered:
            self._order_bits = read(3) + 1

    def __call__(self, packet: Any) -> bool:
        data, frames = memoryview(packet), 0
        try:
            for kind, layered, start, end in _obus(data):
                if kind in (_SEQUENCE, _REDUNDANT_HEADER) or layered:
                    return False
                if kind in (_FRAME, _FRAME_HEADER):
                    frames += 1
                    if self._refreshes(_Bits(data[start : min(end, start + 16)])):
                        return False
        except (ValueError, IndexError):
            return False
        return frames > 0

    def _refreshes(self, read: _Bits) -> bool:
        """Whether a frame is kept for later ones (§5.9.2); an existing frame that is shown counts as one."""
        if read():
            return True
        kind, shown = read(2), read()
        if kind in (0, _SWITCH):
            return True
        if not shown:
            read()
        resilient = read()
        read()
        screen = read() if self._screen == _SELECT else self._screen
        if screen and self._integer == _SELECT:
            read()
        read(self._id_bits)
        read(1 + self._order_bits)
        if kind != _INTRA_ONLY and not resilient:
            read(3)
        return read(8) != 0
