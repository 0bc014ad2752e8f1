"""YAMNet: a small convolutional classifier of 521 kinds of audio (Apache-2.0 upstream, reimplemented).

    wave [S] at 16 kHz ── frames of 25 ms every 10 ms, magnitudes, 64 mel bins, log ──► [F, 64]
    [F, 64] ── windows of 96 frames, every 48 ──► [W, 96, 64] ── MobileNet, classifier ──► scores [W, 521]

Scores are before the sigmoid: classes do not exclude each other. Shapes and constants are those of the published
parameters (tensorflow/models, research/audioset/yamnet: params.py, features.py, yamnet.py).
"""

from functools import lru_cache

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .efficientnet_lite import SameConv
from .errors import EmptyMedia
from .media.fbank import FFT, FRAME, RATE, SHIFT

CLASSES = 521
BINS = 64
LOW_HZ, HIGH_HZ = 125.0, 7500.0
OFFSET = 1e-3  # added to a mel bin's magnitude before the logarithm
SILENCE = -6.907755  # its logarithm: what padding is filled with
WINDOW, HOP = 96, 48  # frames
# stride and width of each separable convolution
LAYERS = (
    (1, 64), (2, 128), (1, 128), (2, 256), (1, 256), (2, 512), (1, 512), (1, 512), (1, 512), (1, 512), (1, 512),
    (2, 1024), (1, 1024),
)  # fmt: skip
PASS = 32  # windows that pass together, which bounds memory


def log_mel(wave: Tensor) -> Tensor:
    """float[S] at 16 kHz, range ±1 → float[F, 64], as many frames as `media.fbank.fbank` makes.

    Raises:
        EmptyMedia: shorter than one frame (400 samples).
    """
    if len(wave) < FRAME:
        raise EmptyMedia(f"{len(wave)} samples of audio; the filterbank expects {FRAME} (25 ms) or more.")
    frames = wave.unfold(0, FRAME, SHIFT) * torch.hann_window(FRAME, dtype=wave.dtype)
    return (torch.fft.rfft(frames, n=FFT).abs() @ _triangles(wave.dtype) + OFFSET).log()


@lru_cache(maxsize=4)
def _triangles(dtype: torch.dtype) -> Tensor:
    """float[257, 64]: the weight of each FFT bin in each mel bin; bin 0 has none."""
    low, high = (_mel(torch.tensor(hz, dtype=torch.float64)) for hz in (LOW_HZ, HIGH_HZ))
    edges = torch.linspace(float(low), float(high), BINS + 2, dtype=torch.float64)
    mel = _mel(torch.arange(FFT // 2 + 1, dtype=torch.float64) * RATE / FFT)[:, None]
    left, centre, right = edges[:-2], edges[1:-1], edges[2:]
    weights = torch.minimum((mel - left) / (centre - left), (right - mel) / (right - centre)).clamp(min=0)
    weights[0] = 0
    return weights.to(dtype)


def _mel(hz: Tensor) -> Tensor:
    return 1127.0 * (1.0 + hz / 700.0).log()


def window_starts(frames: int) -> list[int]:
    """First frame of each window: every 48, and one that ends with the audio; at least one, which may be padded."""
    last = max(frames - WINDOW, 0)
    return sorted({*range(0, last + 1, HOP), last})


def window_of_frames(frames: int, times: Tensor) -> Tensor:
    """For frame numbers i64[n]: the window whose centre is closest, i64[n]."""
    centres = torch.tensor(window_starts(frames)) + WINDOW // 2
    return (times[:, None] - centres).abs().argmin(1)


class Separable(nn.Module):
    """3×3 depthwise → 1×1: [W, C, h, w] → [W, D, ⌈h / stride⌉, ⌈w / stride⌉]."""

    def __init__(self, width_in: int, width_out: int, stride: int) -> None:
        super().__init__()
        self.depthwise = SameConv(width_in, width_in, 3, stride, groups=width_in)
        self.pointwise = SameConv(width_in, width_out, 1)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.pointwise(self.depthwise(x))
        return out


class Yamnet(nn.Module):
    """Class scores of windows: [W, 96, 64] → [W, classes]."""

    def __init__(self, classes: int = CLASSES) -> None:
        super().__init__()
        self.stem = SameConv(1, 32, 3, stride=2)
        widths = [32, *(width for _, width in LAYERS)]
        self.layers = nn.Sequential(
            *(Separable(before, width, stride) for before, (stride, width) in zip(widths, LAYERS, strict=False))
        )
        self.classifier = nn.Linear(widths[-1], classes)

    def forward(self, windows: Tensor) -> Tensor:
        scores: Tensor = self.classifier(self.layers(self.stem(windows[:, None])).mean((2, 3)))
        return scores

    def scores(self, frames: Tensor) -> Tensor:
        """Log-mel frames [F, 64] of one clip → scores of its windows [W, classes]."""
        padded = F.pad(frames, (0, 0, 0, max(WINDOW - len(frames), 0)), value=SILENCE)
        windows = torch.stack([padded[start : start + WINDOW] for start in window_starts(len(frames))])
        return torch.cat([self(some) for some in windows.split(PASS)])
