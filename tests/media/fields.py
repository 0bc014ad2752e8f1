"""H.264 coded field by field, as broadcasters do it, with uncompressed blocks: written bit by bit (ITU-T H.264)."""

from collections.abc import Sequence


class Bits:
    """A bit string being written."""

    def __init__(self) -> None:
        self._bits: list[str] = []

    def u(self, count: int, value: int) -> "Bits":
        """An unsigned number of so many bits."""
        self._bits.append(f"{value:0{count}b}")
        return self

    def ue(self, *values: int) -> "Bits":
        """Exponential Golomb codes."""
        for value in values:
            code = f"{value + 1:b}"
            self._bits.append("0" * (len(code) - 1) + code)
        return self

    def aligned(self) -> bytes:
        """The bits so far, filled with zeros."""
        bits = "".join(self._bits)
        bits += "0" * (-len(bits) % 8)
        return int(bits, 2).to_bytes(len(bits) // 8)

    def ended(self) -> bytes:
        """With the bit that ends a unit."""
        self._bits.append("1")
        return self.aligned()


def unit(head: int, payload: bytes) -> bytes:
    """A unit after a start code, without start codes inside."""
    out, zeros = bytearray(), 0
    for byte in payload:
        if zeros >= 2 and byte <= 3:
            out.append(3)
            zeros = 0
        out.append(byte)
        zeros = 0 if byte else zeros + 1
    return b"\0\0\0\1" + bytes([head]) + bytes(out)


def field_coded(levels: Sequence[int], fps: int = 25) -> bytes:
    """A raw stream of 16x32 pixels; each frame is two fields of one grey level, each field a picture of its own."""
    sps = Bits().u(8, 77).u(8, 0).u(8, 30).ue(0, 0, 2, 1).u(1, 0).ue(0, 0).u(3, 0b001).u(1, 0).u(1, 1)
    sps.u(4, 0).u(1, 1).u(32, 1).u(32, 2 * fps).u(1, 1).u(4, 0)  # VUI: the rate alone
    pps = Bits().ue(0, 0).u(2, 0).ue(0, 0, 0).u(3, 0).ue(0, 0, 0).u(3, 0b100)
    stream = unit(0x67, sps.ended()) + unit(0x68, pps.ended())
    for number, level in enumerate(levels):
        for bottom in (0, 1):
            first = number == 0 and not bottom
            head = Bits().ue(0, 7, 0).u(4, number % 16).u(1, 1).u(1, bottom)
            if first:
                head.ue(0).u(2, 0)
            else:
                head.u(1, 0)
            head.ue(0, 1, 25)  # the quantiser, no deblocking filter, a block of plain samples
            samples = bytes([level or 1]) * 256 + b"\x80" * 128
            stream += unit(0x65 if first else 0x61, head.aligned() + samples + b"\x80")
    return stream
