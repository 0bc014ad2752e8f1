"""Pictures that no other depends on are found from packets alone, and skipping them changes no other picture."""

from pathlib import Path
from types import SimpleNamespace

import av
import numpy as np
import pytest

from videollama2.media import open_clip
from videollama2.media.unreferenced import unreferenced

from .make import noisy, write

X265 = "log-level=none:bframes=4:keyint=30"
STREAMS = {
    "h264": ("libx264", {"bf": "3"}),
    "h264 without a pyramid": ("libx264", {"bf": "2", "x264-params": "b-pyramid=none"}),
    "hevc": ("libx265", {"x265-params": X265}),
    "hevc with temporal layers": ("libx265", {"x265-params": f"{X265}:temporal-layers=3"}),
    "hevc with an open group": ("libx265", {"x265-params": f"{X265}:open-gop=1:keyint=12"}),
    "av1": ("libsvtav1", {"preset": "8"}),
    "av1, quick": ("libsvtav1", {"preset": "12"}),
}


def made(folder: Path, name: str) -> Path:
    encoder, options = STREAMS[name]
    return write(folder / "clip.mp4", 40, codec=encoder, draw=noisy, size=(128, 96), options=options)


@pytest.mark.parametrize("name", STREAMS)
def test_every_frame_equals_a_straight_decode(tmp_path: Path, name: str) -> None:
    path = made(tmp_path, name)
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        test = unreferenced(stream.codec_context)
        assert test is not None
        skipped = [packet.pts for packet in container.demux(stream) if packet.size and test(packet)]
    assert 5 <= len(skipped) < 35
    with av.open(str(path)) as container:
        straight = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert len(straight) == 40
    for wanted in (1, 3, 7, 40):  # frames at different places, so that different ones are skipped on the way
        clip = open_clip(path, num_frames=wanted, protocol="released", want_audio=False)
        for i, frame in zip(clip.frame_indices, clip.frames, strict=True):
            np.testing.assert_array_equal(frame, straight[i], err_msg=f"{name}: frame {i} of {wanted}")


@pytest.mark.parametrize("codec", ["libvpx-vp9", "libvpx", "mpeg4"])
def test_streams_that_do_not_tell(tmp_path: Path, codec: str) -> None:
    path = write(tmp_path / "clip.mkv", 10, codec=codec, draw=noisy, size=(128, 96))
    with av.open(str(path)) as container:
        assert unreferenced(container.streams.video[0].codec_context) is None


@pytest.mark.parametrize("name", STREAMS)
def test_damage_is_not_skipped(tmp_path: Path, name: str) -> None:
    """Headers and packets that end anywhere are decoded, not an error here."""
    path = made(tmp_path, name)
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        extra, decoder = stream.codec_context.extradata, stream.codec_context.name
        test = unreferenced(stream.codec_context)
        packets = [bytes(packet) for packet in container.demux(stream) if packet.size]
    assert test is not None
    for end in range(0, len(extra), 3):
        unreferenced(SimpleNamespace(name=decoder, extradata=extra[:end]))
    random = np.random.default_rng(1)
    for packet in packets[:20]:
        for end in range(12):
            assert test(packet[:end]) in (True, False)
        for _ in range(20):
            noise = bytearray(packet[:40])
            noise[random.integers(len(noise))] = random.integers(256)
            assert test(bytes(noise)) in (True, False)
