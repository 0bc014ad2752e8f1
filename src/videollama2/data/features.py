"""Disk cache of the features of frozen encoders, most of the cost of a phase that does not train them.

    key = SHA-256(content of the file, range, frames, protocol, pixel settings, weights of the encoder)
    folder/3f/3f…c1.safetensors: one tensor, [T, P, C] of frames or [n, C] of audio

Workers look features up before they decode; the main process, which has the model, encodes and stores the rest. Files
are written atomically, so any number of processes may share a folder.
"""

import hashlib
import json
import logging
import os
import secrets
import zlib
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from ..errors import MediaError, UsageError
from ..media import PixelSettings
from ..modeling import VideoLlama2ForConditionalGeneration
from ..protocols import Protocol, protocol
from ..text.media_parts import Media
from ..vision import is_frozen
from .collate import FeatureKeys, Sample
from .tar_media import is_tar_path, tar_member

logger = logging.getLogger(__name__)

FORMAT = 2  # part of every key: a new format never reads old files
RECOUNT = 20  # the folder's size is measured again when this process has added 1/RECOUNT of the limit


class FeatureCache:
    """Cached features of one model's frozen encoders under one protocol; models and protocols may share a folder."""

    def __init__(
        self,
        folder: Path | str,
        model: VideoLlama2ForConditionalGeneration,
        protocol_name: str | Protocol,
        pixels: PixelSettings | None,
        *,
        max_bytes: int | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        """Open or make the folder, and fingerprint the frozen encoders. The model itself is not kept.

        Args:
            folder: of the cache.
            model: with `requires_grad` set as in training (`Phase.apply`), before it is sharded.
            protocol_name: how media are prepared.
            pixels: how frames are prepared (`VideoLlama2Processor.pixels`).
            max_bytes: size beyond which nothing is added; None: no limit.
            dtype: of stored features; None: as encoded.

        Raises:
            UsageError: the folder can't be made.
        """
        self.folder, self.max_bytes, self.dtype = Path(folder), max_bytes, dtype
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UsageError(f"can't make a feature cache in {folder}: {error.strerror or error}.") from error
        inner = model.model
        config = model.config
        layer = (config.vision_feature_layer, config.vision_feature_select)
        self._vision = _fingerprint(inner.vision_encoder, *layer) if _usable(inner.vision_encoder) else None
        self._audio = _fingerprint(inner.audio_encoder) if _usable(inner.audio_encoder) else None
        self._settings = {
            "format": FORMAT,
            "protocol": {k: v for k, v in protocol(protocol_name).key().items() if k not in ("name", "summary")},
            "dtype": str(dtype),
        }
        self._pixels = None if pixels is None else asdict(pixels)
        self._frames = int(config.num_frames)
        self._digests: dict[tuple[str, int, int], str] = {}
        self._used, self._since, self._storing = self._count(), 0, True

    # ── looking up, in any process ─────────────────────────────────────────────────────────────────────────────

    def keys(self, media: Media, *, still: bool = False) -> FeatureKeys:
        """The keys of a media item's features. Hashes the file, once per process; None if it can't be read.

        Args:
            media: the request.
            still: the record says that it is an image; a video gets other keys, and is rejected when decoded.
        """
        content = self._content(media.source)
        if content is None or media.times is not None:
            return FeatureKeys(None, None)
        item = {**self._settings, "content": content, "start": media.start, "end": media.end, "video": media.video}
        item |= media.tracks
        frames = self._frames if media.num_frames is None else media.num_frames
        vision = {**item, "frames": frames, "still": still, "pixels": self._pixels, "encoder": self._vision}
        audio = {**item, "encoder": self._audio}
        return FeatureKeys(
            _digest(vision) if self._vision is not None and media.video else None,
            _digest(audio) if self._audio is not None and media.audio else None,
        )

    def look_up(self, key: str | None) -> Tensor | None:
        """The cached features, or None; `encode` replaces a damaged file, after a warning."""
        if key is None:
            return None
        path = self._path(key)
        try:
            with safe_open(path, "pt") as file:
                features: Tensor = file.get_tensor("features")
                expected = (file.metadata() or {}).get("crc32")
        except FileNotFoundError:
            return None
        except (OSError, SafetensorError) as error:
            logger.warning("cached features %s are damaged (%s); computing them again", path, error)
            return None
        if expected != _crc(features):
            logger.warning("cached features %s are damaged (checksum); computing them again", path)
            return None
        return features

    # ── encoding and storing, in the main process ──────────────────────────────────────────────────────────────

    def encode(self, model: VideoLlama2ForConditionalGeneration, samples: Sequence[Sample]) -> list[Sample]:
        """Replace pixels and fbanks by the frozen encoders' features, and cache those that are new.

        Each media item is encoded alone, so its features do not depend on the rest of the batch.

        Raises:
            UsageError: an encoder learns now that was frozen when the cache was opened.
        """
        inner = model.model
        changed = [
            name
            for name, known in (("vision_encoder", self._vision), ("audio_encoder", self._audio))
            if known is not None and not is_frozen(getattr(inner, name))
        ]
        if changed:
            raise UsageError(
                f"{' and '.join(changed)} learns now, so cached features are outdated; open a new FeatureCache."
            )
        with torch.no_grad():
            return [self._encode(inner, sample) for sample in samples]

    def _encode(self, inner: Any, sample: Sample) -> Sample:
        keys = sample.keys or FeatureKeys(None, None)
        if self._vision is not None and sample.pixels is not None:
            device = next(inner.vision_encoder.parameters()).device
            features = self._stored(keys.vision, inner.encode_frames(sample.pixels.to(device)))
            sample = replace(sample, pixels=None, vision_features=features)
        if self._audio is not None and sample.fbank is not None:
            device = next(inner.audio_encoder.parameters()).device
            features = self._stored(keys.audio, inner.encode_audio(sample.fbank[None].to(device))[0])
            sample = replace(sample, fbank=None, audio_features=features)
        return sample

    def _stored(self, key: str | None, features: Tensor) -> Tensor:
        """The features on the CPU, as `look_up` would return them; written to the folder if there is room."""
        features = features.to("cpu", self.dtype or features.dtype).contiguous()
        if key is None or not self._storing:
            return features
        data = save({"features": features}, {"format": "pt", "crc32": _crc(features)})
        if self.max_bytes is not None and self._since > self.max_bytes // RECOUNT:
            self._used, self._since = self._count(), 0
        if self.max_bytes is not None and self._used + len(data) > self.max_bytes:
            self._stop_storing(f"is at its limit of {self.max_bytes / 1e9:.3g} GB")
            return features
        path = self._path(key)
        unfinished = path.with_name(f".{key}.{secrets.token_hex(4)}")
        try:
            path.parent.mkdir(exist_ok=True)
            unfinished.write_bytes(data)
            unfinished.replace(path)
        except OSError as error:
            self._stop_storing(f"can't be written to ({error.strerror or error})")
            unfinished.unlink(missing_ok=True)
        self._used, self._since = self._used + len(data), self._since + len(data)
        return features

    def _stop_storing(self, why: str) -> None:
        self._storing = False
        logger.warning(
            "feature cache %s %s: training continues, computing features that are not cached", self.folder, why
        )

    def _count(self) -> int:
        """Bytes in the folder."""
        total = 0
        for place, _, names in os.walk(self.folder):
            for name in names:
                try:
                    total += (Path(place) / name).stat().st_size
                except FileNotFoundError:  # just renamed by another process
                    continue
        return total

    # ── names ──────────────────────────────────────────────────────────────────────────────────────────────────

    def _path(self, key: str) -> Path:
        return self.folder / key[:2] / f"{key}.safetensors"

    def _content(self, source: Any) -> str | None:
        """Hash of the content of a file, a folder or several paths; None if they can't be read."""
        if isinstance(source, list | tuple):
            parts = [self._content(part) for part in source]
            return None if None in parts else _digest(parts)
        if not isinstance(source, str | Path):
            return None
        if isinstance(source, str) and is_tar_path(source):
            return _of_member(source)
        path = Path(source)
        try:
            if path.is_dir():
                return _digest([[p.name, self._content(p)] for p in sorted(path.iterdir()) if p.is_file()])
            stat = path.stat()
            known = (str(path), stat.st_size, stat.st_mtime_ns)
            if known not in self._digests:
                with path.open("rb") as file:
                    self._digests[known] = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError:  # decoding will report what is wrong
            return None
        return self._digests[known]


def _of_member(path: str) -> str | None:
    try:
        return hashlib.sha256(tar_member(path).read()).hexdigest()
    except MediaError:  # decoding will report what is wrong
        return None


def _usable(encoder: nn.Module | None) -> bool:
    return encoder is not None and is_frozen(encoder)


def _fingerprint(encoder: Any, *settings: Any) -> str:
    """Hash of an encoder's configuration and weights."""
    config = {k: v for k, v in encoder.config.to_dict().items() if k not in _NOT_ARITHMETIC}
    hashed = hashlib.sha256(_json([config, settings]))
    for name, tensor in sorted(encoder.state_dict().items()):
        hashed.update(_json([name, str(tensor.dtype), list(tensor.shape)]))
        hashed.update(_bytes(tensor))
    return hashed.hexdigest()


_NOT_ARITHMETIC = frozenset({"transformers_version", "_name_or_path", "dtype", "torch_dtype", "architectures"})


def _bytes(tensor: Tensor) -> Any:
    return tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()


def _crc(tensor: Tensor) -> str:
    return f"{zlib.crc32(_bytes(tensor)):08x}"


def _digest(value: Any) -> str:
    return hashlib.sha256(_json(value)).hexdigest()


def _json(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, default=str).encode()
