"""Malicious media, small, generated here, each with the error that it must cause."""

import io
import struct
import zlib
from pathlib import Path

import av
import numpy as np
from PIL import Image

from ..media.make import tone, write


def chunk(kind: bytes, data: bytes) -> bytes:
    """A PNG chunk."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, *chunks: bytes, pixels: bytes = b"\0" * 200) -> bytes:
    """A PNG with a false size and the given data."""
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    body = chunk(b"IDAT", zlib.compress(pixels)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + head + b"".join(chunks) + body


def gif(frames: int, size: tuple[int, int] = (1, 1)) -> bytes:
    """An animation with 23 bytes per frame."""
    head = b"GIF89a" + struct.pack("<HHBBB", *size, 0x80, 0, 0) + b"\0\0\0\xff\xff\xff"
    return head + b"\x21\xf9\x04\0\x0a\0\0\0\x2c\0\0\0\0\1\0\1\0\0\2\2\x44\1\0" * frames + b";"


def patched(data: bytes, tag: bytes, offset: int, value: bytes) -> bytes:
    """The file with some bytes after a tag replaced."""
    at = data.index(tag) + offset
    return data[:at] + value + data[at + len(value) :]


def big_numbers() -> dict[str, bytes]:
    """Images whose headers or compressed parts claim to be gigantic."""
    zeros = zlib.compress(b"\0" * 60_000_000)
    many = chunk(b"acTL", struct.pack(">II", 10**9, 0))
    first = chunk(b"fcTL", struct.pack(">IIIIIHHBB", 0, 8, 8, 0, 0, 1, 10, 0, 0))
    return {
        "40k x 40k PNG": png(40_000, 40_000),
        "2^31 PNG": png(2**31 - 1, 2**31 - 1),
        "PNG of 10^9 frames": png(8, 8, many, first),
        "PNG with a text of 60 MB": png(8, 8, chunk(b"zTXt", b"k\0\0" + zeros)),
        "PNG with a profile of 60 MB": png(8, 8, chunk(b"iCCP", b"k\0\0" + zeros)),
        "GIF of 10^5 frames": gif(100_000),
        "GIF of 65535 x 65535": gif(3, (65535, 65535)),
    }


def lying_mp4(folder: Path) -> dict[str, bytes]:
    """Videos whose tables list data that does not exist."""
    good = write(folder / "good.mp4", 12, sound=tone(1.2, 16000), rate=16000).read_bytes()
    huge = struct.pack(">I", 10**9)
    return {
        "10^9 samples of one duration": patched(good, b"stts", 12, huge),
        "10^9 durations": patched(good, b"stts", 8, huge),
        "10^9 sizes": patched(good, b"stsz", 12, huge),
        "10^9 samples of one byte": patched(good, b"stsz", 8, struct.pack(">II", 1, 10**9)),
        "10^9 samples in a chunk": patched(good, b"stsc", 12, struct.pack(">III", 1, 10**9, 1)),
        "frames of 32k x 32k": patched(good, b"avc1", 28, struct.pack(">HH", 32768, 32768)),
        "136 years": patched(good, b"mvhd", 20, b"\xff\xff\xff\xfe"),
        "no end": patched(good, b"moov", -4, b"\xff\xff\xff\xff"),
    }


def long_silence(path: Path, seconds: int) -> bytes:
    """An image and silence, in a few bytes per second."""
    with av.open(str(path), "w") as out:
        video = out.add_stream("libvpx", rate=1)
        video.width = video.height = 16
        audio = out.add_stream("libopus", rate=8000)
        frame = av.VideoFrame.from_ndarray(np.zeros((16, 16, 3), np.uint8), format="rgb24")
        for i in range(2):
            frame.pts = i
            out.mux(video.encode(frame))
        out.mux(video.encode())
        for i in range(seconds):
            block = av.AudioFrame.from_ndarray(np.zeros((1, 8000), np.int16), format="s16", layout="mono")
            block.sample_rate, block.pts = 8000, 8000 * i
            out.mux(audio.encode(block))
        out.mux(audio.encode())
    return path.read_bytes()


def other_formats(folder: Path) -> dict[str, bytes]:
    """Formats that a server does not open, to expose fewer decoders and their bugs."""
    found = {}
    for kind in ("TIFF", "BMP", "JPEG2000", "PPM", "ICO", "PCX", "TGA"):
        held = io.BytesIO()
        Image.new("RGB", (16, 16)).save(held, kind)
        found[kind] = held.getvalue()
    for codec, name in (("magicyuv", "a.avi"), ("jpeg2000", "b.mov"), ("ffv1", "c.mkv"), ("mpeg2video", "d.mkv"),
                        ("libx264", "e.ts"), ("libx264", "f.flv"), ("mjpeg", "g.avi")):  # fmt: skip
        found[f"{codec} in {name[2:]}"] = write(folder / name, 3, codec=codec).read_bytes()
    for codec in ("ac3", "mp2"):
        found[codec] = write(folder / f"{codec}.mkv", sound=tone(0.3), sound_codec=codec).read_bytes()
    return found


def references(secret: Path, port: int) -> dict[str, bytes]:
    """Scripts and playlists that name another file or another host."""
    found = {}
    for what, target in (("a file", str(secret)), ("a host", f"http://127.0.0.1:{port}/x.mp4")):
        found |= {
            f"HLS of {what}": f"#EXTM3U\n#EXT-X-TARGETDURATION:5\n#EXTINF:5,\n{target}\n#EXT-X-ENDLIST\n".encode(),
            f"HLS of {what} after a header": f"\n\n#EXTM3U\n#EXT-X-MEDIA-SEQUENCE:0\n#EXTINF:5,\n{target}\n".encode(),
            f"concat of {what}": f"ffconcat version 1.0\nfile '{target}'\n".encode(),
            f"DASH of {what}": f'<?xml version="1.0"?><MPD><BaseURL>{target}</BaseURL></MPD>'.encode(),
            f"SVG of {what}": f'<svg xmlns:xlink="x"><image xlink:href="{target}"/></svg>'.encode(),
            f"playlist of {what}": f"[playlist]\nFile1={target}\n".encode(),
        }
    found["SDP"] = f"v=0\no=- 0 0 IN IP4 127.0.0.1\nc=IN IP4 127.0.0.1\nm=video {port} RTP/AVP 96\n".encode()
    return found
