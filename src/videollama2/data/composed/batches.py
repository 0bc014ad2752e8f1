"""Endless training batches of composed clips: scenes and token ids on the CPU, pictures and sound on the device.

    ComposedBatches[i] ── worker: scenes, textures, waves, questions → ids and labels   (numpy; same i, same batch)
                       ── rendering.to_inputs, on the device: frames, fbank → keyword arguments of the model

One batch holds one kind of sample and one length of clip, so nothing but text is padded.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from ...configuration import VideoLlama2Config
from ...stc import connector_settings
from ...text.prompts import encode_prompt
from ...vision import num_patches
from ..labels import IGNORE
from .clips import SOUND_RATE_HZ, render_sound
from .drawing import scene_arrays
from .packs import PHOTO_CLASSES, TEXTURE_SIDE, Pictures, Sounds
from .questions import Ask, ask, follow_up, kinds_for
from .scenes import Scene, compose

# kind of sample -> kind of question -> weight; only kinds that fit the scene are asked
QUESTIONS: dict[str, dict[str, float]] = {
    "video": {
        "object": 6, "direction": 3, "colour": 6, "count": 6, "describe": 0.5, "caption": 2, "first_seen": 1,
        "last_seen": 1, "order_seen": 6, "is_seen": 1, "sound": 0.5, "both": 1, "match": 0.5, "then": 4,
    },
    "image": {"object": 8, "colour": 5, "count": 5, "is_seen": 1, "sound": 0.5},
    "audio": {
        "sound": 8, "first_heard": 1, "last_heard": 1, "order_heard": 6, "is_heard": 1, "object": 1, "describe": 0.5,
        "both": 1, "caption": 1, "direction": 1, "colour": 0.7, "count": 0.7, "match": 0.5, "then": 1,
    },
    "av": {
        "object": 5, "direction": 2, "colour": 5, "count": 6, "sound": 7, "both": 3, "describe": 0.4, "caption": 2,
        "first_seen": 0.7, "last_seen": 0.7, "order_seen": 6, "first_heard": 1, "last_heard": 0.7, "order_heard": 7,
        "order_both": 8, "is_seen": 0.5, "is_heard": 1, "match": 10, "then": 4,
    },
}  # fmt: skip


@dataclass(frozen=True)
class Sizes:
    """Tokens per medium of a model, from its configuration."""

    config: VideoLlama2Config

    @property
    def side(self) -> int:
        return int(self.config.vision_config.image_size)

    def video(self) -> int:
        rows, columns = num_patches(self.config.vision_config)
        return connector_settings(self.config.connector_type).num_tokens(self.config.num_frames, rows, columns)

    def audio(self, samples: int) -> int:
        audio = self.config.audio_config
        return int(audio.num_tokens(audio.num_features(audio.num_frames(samples)), self.config.audio_pool))


@dataclass
class ComposedBatches(Dataset[dict[str, Any]]):
    """Batch `i` of a training run; ask a DataLoader for them with `batch_size=None`.

    Attributes:
        mixture: kind of sample → share (`Phase.mixture`).
        text: (question, answer) pairs for the "text" kind.
        speeds: sound is played this much faster or slower, which shifts its pitch too.
        asks: questions per clip. They share the clip's place in the sequence and do not see each other (`collate`), so
            each trains as if it stood alone, and the clip is paid for once.
        sound_classes: where given, batches with sound carry `sound_targets`, int64 [B, tokens]: the class heard at
            each audio token.
    """

    config: VideoLlama2Config
    tokenizer: Any
    pictures: Pictures
    sounds: Sounds
    mixture: Mapping[str, float]
    batch: int
    length: int
    seed: int = 0
    seconds: tuple[float, float] = (2.0, 10.0)
    speeds: tuple[float, float] = (0.84, 1.19)
    text: Sequence[tuple[str, str]] = ()
    asks: int = 1
    sound_classes: tuple[str, ...] = ()
    compose_options: dict[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> dict[str, Any]:
        rng = np.random.default_rng((self.seed, index))
        kinds = list(self.mixture)
        shares = np.array([self.mixture[k] for k in kinds])
        kind = kinds[int(rng.choice(len(kinds), p=shares / shares.sum()))]
        if kind == "text":
            pairs = [self.text[int(i)] for i in rng.integers(len(self.text), size=self.batch)]
            rows = [shared([encode_sample(self.tokenizer, q, a)]) for q, a in pairs]
            return {"kind": kind, **collate(rows, self._pad())}
        return self._clips(kind, rng)

    def _clips(self, kind: str, rng: np.random.Generator) -> dict[str, Any]:
        seen, heard = kind != "audio", kind in ("audio", "av")
        length = float(rng.uniform(*self.seconds))
        speed = float(rng.uniform(*self.speeds)) if heard else 1.0
        options = {"two": 0.0} if kind == "image" else {}
        scenes = [
            compose(
                int(rng.integers(2**62)),
                self.pictures if seen else None,
                self.sounds if heard else None,
                seconds=(length, length),
                **{**self.compose_options, **options},
            )
            for _ in range(self.batch)
        ]
        batch: dict[str, Any] = {"kind": kind}
        samples = round(length * SOUND_RATE_HZ)
        if seen:
            times = frame_times(1 if kind == "image" else self.config.num_frames)
            drawn = [scene_arrays(s, self.pictures, times) for s in scenes]
            for arrays in drawn:
                arrays["textures"] = _vary(arrays["textures"], rng)
            batch |= {k: torch.from_numpy(np.stack([d[k] for d in drawn])) for k in drawn[0]}
            batch["times"] = torch.from_numpy(times).float()
        if heard:
            waves = [render_sound(replace(s, seconds=s.seconds * speed), self.sounds) for s in scenes]
            batch["waves"] = torch.from_numpy((np.stack(waves) * 32767).astype(np.int16))
            batch["samples"] = samples
            if self.sound_classes:
                tokens = Sizes(self.config).audio(samples)
                batch["sound_targets"] = torch.tensor([self._heard(s, tokens) for s in scenes])
        counts = self._counts(kind, samples)
        asked = [self._ask(kind, s, rng) for s in scenes]
        encoded = [
            shared(
                [
                    encode_sample(self.tokenizer, a.question, a.answer, *counts, self.config, earlier=a.earlier)
                    for a in asks
                ]
            )
            for asks in asked
        ]
        return batch | {"asked": [a.kind for asks in asked for a in asks]} | collate(encoded, self._pad())

    def _counts(self, kind: str, samples: int) -> tuple[str, tuple[tuple[str, int], ...]]:
        """The slot in the prompt, and the features in it."""
        sizes = Sizes(self.config)
        found = {"image" if kind == "image" else "video": sizes.video()} if kind != "audio" else {}
        if kind in ("audio", "av"):
            found["audio"] = sizes.audio(samples)
        return kind if kind in ("image", "audio") else "video", tuple(found.items())

    def _ask(self, kind: str, scene: Scene, rng: np.random.Generator) -> list[Ask]:
        """`asks` questions of different kinds; "then" is one with a question before it."""
        fit = kinds_for(scene) | {"then"}
        weights = {k: w for k, w in QUESTIONS[kind].items() if k in fit}
        kinds = list(weights)
        shares = np.array([weights[k] for k in kinds])
        chosen = rng.choice(len(kinds), min(self.asks, len(kinds)), replace=False, p=shares / shares.sum())
        names = {
            "is_heard": tuple(self.sounds.by_label),
            "is_seen": (*PHOTO_CLASSES, *self.pictures.by_drawing) if scene.things else PHOTO_CLASSES,
        }
        return [
            follow_up(scene, rng) if kinds[i] == "then" else ask(scene, kinds[i], rng, names=names.get(kinds[i], ()))
            for i in chosen
        ]

    def _heard(self, scene: Scene, tokens: int) -> list[int]:
        """The class that sounds in the middle of each token."""
        middles = (np.arange(tokens) + 0.5) / tokens
        return [self.sound_classes.index([s.name for s in scene.sounds if s.at <= m][-1]) for m in middles]

    def _pad(self) -> int:
        return int(self.tokenizer.pad_token_id)


def frame_times(count: int) -> NDArray[np.float64]:
    """f64[count] in 0..1: the middles of equal segments, which is where a video is sampled."""
    return (np.arange(count) + 0.5) / count


def _vary(textures: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """u8[K, S, S, 4]: each picture mirrored or not, and most of it instead of all."""
    out = textures[:, :, ::-1] if rng.random() < 0.5 else textures
    margin = rng.integers(0, TEXTURE_SIDE // 6, 4)
    return np.ascontiguousarray(
        np.stack([_stretch(t[margin[0] : TEXTURE_SIDE - margin[1], margin[2] : TEXTURE_SIDE - margin[3]]) for t in out])
    )


def _stretch(texture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    rows, columns = (np.linspace(0, n - 1, TEXTURE_SIDE).round().astype(int) for n in texture.shape[:2])
    return texture[rows][:, columns]


@lru_cache(maxsize=100_000)
def _prompt_ids(
    tokenizer: Any, turns: tuple[str, ...], slot: str, counts: tuple[tuple[str, int], ...], ids: Any
) -> tuple[int, ...]:
    """Ids up to where the assistant answers the last of `turns` (user, assistant, …, user)."""
    content: list[dict[str, str]] = [{"type": "text", "text": turns[0]}]
    if counts:
        content.insert(0, {"type": slot})
    messages: list[Any] = [{"role": "user", "content": content}]
    messages += [
        {"role": ("assistant", "user")[i % 2], "content": [{"type": "text", "text": text}]}
        for i, text in enumerate(turns[1:])
    ]
    media: Any = [dict(counts)] if counts else []
    token_ids: Any = dict(ids)
    return encode_prompt(messages, tokenizer, media, token_ids).input_ids


def encode_sample(
    tokenizer: Any,
    question: str,
    answer: str,
    slot: str = "",
    counts: tuple[tuple[str, int], ...] = (),
    config: VideoLlama2Config | None = None,
    *,
    earlier: Sequence[tuple[str, str]] = (),
) -> tuple[list[int], list[int]]:
    """(ids, labels) of questions about one medium and their answers, which are supervised with their end markers."""
    ids: tuple[tuple[str, Any], ...] = ()
    if config is not None:
        ids = (("image", config.image_token_id), ("video", config.video_token_id), ("audio", config.audio_token_id))
    out: list[int] = []
    labels: list[int] = []
    turns: tuple[str, ...] = ()
    for asked, answered in (*earlier, (question, answer)):
        turns += (asked,)
        prompt = _prompt_ids(tokenizer, turns, slot, counts, ids)
        reply = [*tokenizer.encode(answered, add_special_tokens=False), tokenizer.eos_token_id]
        labels += [IGNORE] * (len(prompt) - len(out)) + reply
        out = [*prompt, *reply]
        turns += (answered,)
    return out, labels


@dataclass(frozen=True)
class Sequenced:
    """One row of a batch. `segments`: 0 for what all questions share, k for the k-th question and its answer."""

    ids: list[int]
    labels: list[int]
    positions: list[int]
    segments: list[int]


def shared(samples: Sequence[tuple[list[int], list[int]]]) -> Sequenced:
    """Samples about one clip → one row: what their prompts have in common once, then the rest of each."""
    first = samples[0][0]
    common = 0
    if len(samples) > 1:  # the prompts differ at the first word of the question at the latest
        shortest = min(labels.index(next(i for i in labels if i != IGNORE)) for _, labels in samples)
        while common < shortest and all(ids[common] == first[common] for ids, _ in samples):
            common += 1
    row = Sequenced(first[:common], [IGNORE] * common, list(range(common)), [0] * common)
    for k, (ids, labels) in enumerate(samples):
        row.ids.extend(ids[common:])
        row.labels.extend(labels[common:])
        row.positions.extend(range(common, len(ids)))
        row.segments.extend([k + 1] * (len(ids) - common))
    return row


def collate(rows: Sequence[Sequenced], pad: int) -> dict[str, Tensor]:
    """Right-padded rows: `input_ids`, `labels`, `attention_mask`, int64 [B, L] each.

    Where rows hold several questions there are also `position_ids` and `segments` (-1 for padding), from which
    `rendering.segment_mask` makes the attention mask.
    """
    longest = max(len(row.ids) for row in rows)
    out = {
        "input_ids": torch.full((len(rows), longest), pad),
        "labels": torch.full((len(rows), longest), IGNORE),
        "attention_mask": torch.zeros((len(rows), longest), dtype=torch.long),
    }
    several = any(max(row.segments) > 1 for row in rows)
    if several:
        out["position_ids"] = torch.zeros((len(rows), longest), dtype=torch.long)
        out["segments"] = torch.full((len(rows), longest), -1)
    for i, row in enumerate(rows):
        length = len(row.ids)
        out["input_ids"][i, :length] = torch.tensor(row.ids)
        out["labels"][i, :length] = torch.tensor(row.labels)
        out["attention_mask"][i, :length] = 1
        if several:
            out["position_ids"][i, :length] = torch.tensor(row.positions)
            out["segments"][i, :length] = torch.tensor(row.segments)
    return out
