"""A plain implementation of the same computations: the reference for `inference.py`.

Written from the description of the architecture: frames decoded by one thread from the key frames before them, each
through Pillow and transformers' own image processor; convolutions with channels first; every block of the vision
encoder; a bias matrix [heads, N, N] and all scores materialised in each BEATs layer; logits of the whole prompt. The
weights are those of our modules, so that the numbers can be compared.
"""

import math
import subprocess
import wave
from bisect import bisect_right
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

if TYPE_CHECKING:
    from PIL import Image  # the GPU rows run without it

# ── pictures ────────────────────────────────────────────────────────────────────────────────────────────────────────


def frames_by_pyav(path: Path, indices: Sequence[int]) -> "list[Image.Image]":
    """As decord does it with one thread: list all packets, then decode from the key frame before each frame.

    Frames of one group of pictures are decoded in one go. Every picture on the way is decoded.
    """
    import av

    found: dict[int, Image.Image] = {}
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_count, stream.codec_context.thread_type = 1, "NONE"
        packets = [(p.pts, p.is_keyframe) for p in container.demux(stream) if p.size and not p.is_discard]
        stamps = sorted(pts for pts, _ in packets)
        keys = sorted(pts for pts, key in packets if key)
        groups: dict[int, set[int]] = {}
        for i in indices:
            groups.setdefault(max(bisect_right(keys, stamps[i]) - 1, 0), set()).add(stamps[i])
        for group, wanted in groups.items():
            container.seek(keys[group], stream=stream)
            for frame in container.decode(stream):
                if frame.pts in wanted:
                    found[frame.pts] = frame.to_image()
                    wanted.remove(frame.pts)
                if not wanted:
                    break
    return [found[stamps[i]] for i in indices]


def frames_by_decord(path: Path, indices: Sequence[int]) -> "list[Image.Image]":
    """decord with one thread, as the public implementation calls it. Used only if decord is installed."""
    from decord import VideoReader, cpu
    from PIL import Image

    reader = VideoReader(str(path), ctx=cpu(0), num_threads=1)
    return [Image.fromarray(frame) for frame in reader.get_batch(list(indices)).asnumpy()]


def square(picture: "Image.Image", fill: tuple[int, ...]) -> "Image.Image":
    """The picture, centred on a square of colour `fill`."""
    from PIL import Image

    width, height = picture.size
    side = max(width, height)
    out = Image.new("RGB", (side, side), fill)
    out.paste(picture, ((side - width) // 2, (side - height) // 2))
    return out


def preprocess(
    read: Callable[[Path, Sequence[int]], "list[Image.Image]"], path: Path, indices: Sequence[int], processor: Any
) -> Tensor:
    """float32 [T, 3, S, S]: padded to squares, then through transformers' processor."""
    fill = tuple(int(255 * m) for m in processor.image_mean)
    pictures = [square(picture, fill) for picture in read(path, indices)]
    return torch.as_tensor(np.asarray(processor.preprocess(pictures, return_tensors="np")["pixel_values"]))


# ── audio ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def fbank(samples: Tensor) -> Tensor:
    """Kaldi's filterbank, 128 bins, of samples at 16 kHz in ±1; builds window and triangles on every call."""
    samples = samples * 32768
    frames = samples.as_strided((1 + (len(samples) - 400) // 160, 400), (160, 1))
    frames = frames - frames.mean(1, keepdim=True)
    before = F.pad(frames[None], (1, 0), mode="replicate")[0, :, :-1]
    frames = (frames - 0.97 * before) * torch.hann_window(400, periodic=False, dtype=samples.dtype).pow(0.85)
    power = torch.fft.rfft(F.pad(frames, (0, 112))).abs().pow(2.0)
    return torch.max(power @ _triangles().to(power.dtype).T, torch.tensor(torch.finfo(torch.float32).eps)).log()


def _triangles() -> Tensor:
    def mel(hz: Any) -> Any:
        return 1127.0 * torch.log(1.0 + torch.as_tensor(hz) / 700.0)

    low, high = float(mel(20.0)), float(mel(8000.0))
    step = (high - low) / 129
    left = low + torch.arange(128)[:, None] * step
    places = mel(16000 / 512 * torch.arange(256))[None]
    up, down = (places - left) / step, (left + 2 * step - places) / step
    return F.pad(torch.max(torch.zeros(1), torch.min(up, down)), (0, 1))


def sound_file(path: Path) -> Tensor:
    """First channel, cut or padded to 30 s, Fourier resampling to 16 kHz in float64, filterbank."""
    with wave.open(str(path)) as file:
        rate, channels = file.getframerate(), file.getnchannels()
        data = np.frombuffer(file.readframes(file.getnframes()), np.int16).reshape(-1, channels)
    samples = data[:, 0].astype(np.float64) / 32768
    samples = np.pad(samples[: 30 * rate], (0, max(0, 30 * rate - len(samples))))
    n, m = len(samples), 30 * 16000
    bins = np.fft.rfft(samples)[: min(n, m) // 2 + 1]
    if m < n:
        bins[-1] *= 2
    return fbank(torch.from_numpy(np.fft.irfft(bins, m) * (m / n))).to(torch.bfloat16)


def video_sound(path: Path) -> Tensor:
    """Mix all audio to 16 kHz and 16 bits, take eight windows of 2 s, pad to 30 s, filterbank."""
    import av

    pieces = []
    with av.open(str(path)) as container:
        resampler = av.AudioResampler(format="s16", layout="mono", rate=16000)
        for frame in container.decode(audio=0):
            pieces += [out.to_ndarray()[0] for out in resampler.resample(frame)]
        pieces += [out.to_ndarray()[0] for out in resampler.resample(None)]
    return _eight_windows(np.concatenate(pieces))


def video_sound_by_ffmpeg(path: Path) -> Tensor:
    """The same by a process of ffmpeg, as the public implementation does it. Used only if ffmpeg is installed."""
    command = ["ffmpeg", "-nostdin", "-i", str(path), "-vn", "-acodec", "pcm_s16le", "-ac", "1", "-ar", "16000"]
    done = subprocess.run([*command, "-f", "s16le", "-"], capture_output=True, check=True)
    return _eight_windows(np.frombuffer(done.stdout, np.int16))


def _eight_windows(mixed: np.ndarray) -> Tensor:
    samples = mixed.astype(np.float32) / 32768
    step = max(len(samples) / 16000 - 2, 0) / 8
    windows = [samples[int(i * step * 16000) : int((i * step + 2) * 16000)] for i in range(8)]
    joined = np.concatenate(windows)
    return fbank(torch.from_numpy(np.pad(joined, (0, max(0, 480000 - len(joined)))))).to(torch.bfloat16)


# ── connector ───────────────────────────────────────────────────────────────────────────────────────────────────────


class Connector(nn.Module):
    """STC with channels first: 2D convolutions per frame, a Conv3d between them. Tensor names match ours."""

    def __init__(self, vision_width: int, width: int, padding: int) -> None:
        super().__init__()
        self.s1 = _stage(vision_width, width)
        self.sampler = nn.Sequential(nn.Conv3d(width, width, 2, 2, padding), nn.SiLU())
        self.s2 = _stage(width, width)
        self.readout = nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.Linear(width, width))

    def forward(self, features: Tensor) -> Tensor:
        """[B, T, h·w, C] → [B, tokens, D]."""
        B, T, N, C = features.shape
        side = math.isqrt(N)
        x = features.view(B * T, side, side, C).permute(0, 3, 1, 2)
        x = self.s1(x).unflatten(0, (B, T)).transpose(1, 2)
        x = self.sampler(x)
        T = x.shape[2]
        x = self.s2(x.transpose(1, 2).flatten(0, 1)).unflatten(0, (B, T))
        out: Tensor = self.readout(x.permute(0, 1, 3, 4, 2).flatten(1, 3))
        return out


def _stage(width_in: int, width: int) -> nn.Sequential:
    stage = nn.Sequential()
    for i in range(4):
        stage.add_module(f"b{i + 1}", _Block(width_in if i == 0 else width, width))
    return stage


class _Norm(nn.LayerNorm):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class _ConvNorm(nn.Module):
    def __init__(self, width_in: int, width: int, kernel: int = 1, groups: int = 1, activate: bool = True) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width_in, width, kernel, padding=kernel // 2, groups=groups, bias=False)
        self.bn = _Norm(width)
        self.activate = activate

    def forward(self, x: Tensor) -> Tensor:
        x = self.bn(self.conv(x))
        return F.silu(x) if self.activate else x


class _Block(nn.Module):
    def __init__(self, width_in: int, width: int) -> None:
        super().__init__()
        self.conv1 = _ConvNorm(width_in, width)
        self.conv2 = _ConvNorm(width, width, 3, groups=width)
        self.se = nn.Module()
        self.se.fc1, self.se.fc2 = nn.Conv2d(width, width_in // 4, 1), nn.Conv2d(width_in // 4, width, 1)
        self.conv3 = _ConvNorm(width, width, activate=False)
        self.downsample = _ConvNorm(width_in, width, activate=False) if width_in != width else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv2(self.conv1(x))
        h = h * torch.sigmoid(self.se.fc2(F.silu(self.se.fc1(h.mean((2, 3), keepdim=True)))))
        return F.silu(self.conv3(h) + self.downsample(x))


# ── BEATs ───────────────────────────────────────────────────────────────────────────────────────────────────────────


@torch.inference_mode()
def beats(model: Any, input_features: Tensor) -> Tensor:
    """BEATs with our module's weights; each layer materialises bias and scores, [B·heads, N, N]."""
    encoder, heads = model.encoder, model.config.encoder_attention_heads
    x = (input_features - 15.41663) / (2 * 6.55582)
    x = model.layer_norm(model.patch_embedding(x[:, None]).flatten(2).transpose(1, 2))
    x = model.post_extract_proj(x)
    conv = encoder.pos_conv[0]
    positions = F.conv1d(x.transpose(1, 2), conv.weight, conv.bias, padding=conv.padding, groups=conv.groups)[..., :-1]
    x = encoder.layer_norm(x + F.gelu(positions).transpose(1, 2))
    B, N, _ = x.shape
    places = torch.arange(N)
    buckets = _buckets(places[None] - places[:, None], model.config.num_buckets, model.config.max_distance)
    bias = F.embedding(buckets, encoder.relative_attention_bias.weight).permute(2, 0, 1)
    bias = bias[None].repeat(B, 1, 1, 1).view(B * heads, N, N)
    x = x.transpose(0, 1)  # time first
    for layer in encoder.layers:
        x = _beats_layer(layer, x, bias, heads)
    return x.transpose(0, 1)


def _beats_layer(layer: Any, x: Tensor, bias: Tensor, heads: int) -> Tensor:
    attention = layer.self_attn
    N, B, D = x.shape
    d = D // heads

    def split(projected: Tensor) -> Tensor:
        return projected.contiguous().view(N, B * heads, d).transpose(0, 1)

    q, k, v = split(attention.q_proj(x)), split(attention.k_proj(x)), split(attention.v_proj(x))
    u = q.view(B, heads, N, d)
    gate_a, gate_b = torch.sigmoid(attention.grep_linear(u).view(B, heads, N, 2, 4).sum(-1)).chunk(2, -1)
    gate = gate_a * (gate_b * attention.grep_a - 1.0) + 2.0
    gated = gate.view(B * heads, N, 1) * bias
    scores = torch.bmm(q * (d**-0.5 / 32), k.transpose(1, 2))
    scores = (scores - scores.max(-1, keepdim=True)[0]) * 32
    weights = F.softmax(scores + gated, dim=-1, dtype=torch.float32)
    h = torch.bmm(weights, v).transpose(0, 1).contiguous().view(N, B, D)
    x = layer.self_attn_layer_norm(x * layer.alpha + attention.out_proj(h))
    return layer.final_layer_norm(x * layer.alpha + layer.fc2(F.gelu(layer.fc1(x))))


def _buckets(distance: Tensor, count: int, furthest: int) -> Tensor:
    half = count // 2
    exact, size = half // 2, distance.abs()
    far = torch.log(size.float() / exact) / math.log(furthest / exact) * (half - exact)
    far = torch.min((exact + far).to(torch.long), torch.full_like(size, half - 1))
    return (distance > 0).long() * half + torch.where(size < exact, size, far)


# ── whole models ────────────────────────────────────────────────────────────────────────────────────────────────────


@torch.inference_mode()
def vision(encoder: Any, pixels: Tensor) -> Tensor:
    """Patch features of the second to last block; computes all blocks and keeps all outputs."""
    states = encoder(pixels, output_hidden_states=True).hidden_states
    return states[-2][:, 1:] if hasattr(encoder.embeddings, "class_embedding") else states[-2]


@torch.inference_mode()
def greedy(model: Any, embeds: Tensor, new_tokens: int, cache: Any = None) -> Tensor:
    """Ids [B, new_tokens] from transformers' own causal model; float32 logits of the whole prompt."""
    from transformers import DynamicCache

    cache = DynamicCache(config=model.config) if cache is None else cache
    ids = []
    for _ in range(new_tokens):
        logits = model(inputs_embeds=embeds, past_key_values=cache, use_cache=True).logits.float()
        ids.append(logits[:, -1].argmax(-1))
        embeds = model.get_input_embeddings()(ids[-1][:, None])
    return torch.stack(ids, 1)
