"""Training batches of composed clips, and the steps that the training loop takes with them.

    ComposedBatches[i] ── worker: scenes, textures, waves, questions → ids and labels   (numpy; same i, same batch)
                       ── rendering.to_inputs, on the device: frames, fbank → keyword arguments of the model

A batch holds one kind of sample and one length of clip, so only text is padded.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from questions import Ask, ask, follow_up, kinds_for
from rendering import to_inputs
from shared_clips import collate, shared
from torch.utils.data import DataLoader, Dataset, Subset

from videollama2.configuration import VideoLlama2Config
from videollama2.data.batches import MicroBatch, StepBatch, StepSource
from videollama2.data.composed import (
    PHOTO_CLASSES,
    SOUND_RATE_HZ,
    TEXTURE_SIDE,
    PicturePack,
    Scene,
    SoundPack,
    compose,
    render_sound,
    scene_arrays,
)
from videollama2.data.labels import IGNORE
from videollama2.stc import connector_settings
from videollama2.text.prompts import tokenise_prompt
from videollama2.vision import num_patches

# kind of sample → kind of question → weight; kinds that don't fit the scene are dropped
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
    """Media tokens of a model, from its configuration."""

    config: VideoLlama2Config

    @property
    def side(self) -> int:
        return int(self.config.vision_config.image_size)

    def video(self) -> int:
        rows, columns = num_patches(self.config.vision_config)
        return connector_settings(self.config.connector_type).num_tokens(self.config.num_frames, rows, columns)

    def audio(self, samples: int) -> int:
        audio = self.config.audio_config
        return int(self.config.audio_tokens(audio.num_features(audio.num_frames(samples))))


@dataclass
class ComposedBatches(Dataset[dict[str, Any]]):
    """Batches of a training run by number; load them with `DataLoader(batch_size=None)`.

    Attributes:
        config, tokenizer: of the model.
        mixture: kind of sample → share (`Phase.mixture`).
        batch: clips per batch; `length`: number of batches.
        seed: of everything; `seconds`: shortest and longest clip.
        speeds: range of the factor by which sound is sped up, which raises its pitch too.
        text: (question, answer) pairs of the kind "text".
        asks: questions per clip. They share the clip's tokens and don't see each other (shared_clips.py), so each
            trains as if it stood alone while the clip is computed once.
        sound_classes: if given, batches with sound carry `sound_targets`, int64 [B, tokens]: the class heard at each
            audio token.
        compose_options: of `compose`.
    """

    config: VideoLlama2Config
    tokenizer: Any
    pictures: PicturePack
    sounds: SoundPack
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
        """The kind of placeholder in the prompt, and the number of tokens per modality."""
        sizes = Sizes(self.config)
        found = {"image" if kind == "image" else "video": sizes.video()} if kind != "audio" else {}
        if kind in ("audio", "av"):
            found["audio"] = sizes.audio(samples)
        return kind if kind in ("image", "audio") else "video", tuple(found.items())

    def _ask(self, kind: str, scene: Scene, rng: np.random.Generator) -> list[Ask]:
        """`asks` questions of different kinds; "then" is a question that follows another."""
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
        """The class heard in the middle of each audio token."""
        middles = (np.arange(tokens) + 0.5) / tokens
        return [self.sound_classes.index([s.name for s in scene.sounds if s.at <= m][-1]) for m in middles]

    def _pad(self) -> int:
        return int(self.tokenizer.pad_token_id)


@dataclass(frozen=True)
class ComposedSteps(StepSource):
    """Training steps of one batch each; the same step has the same clips and augmentation in every call.

    Attributes:
        side: of the frames, in pixels.
        device: of the model; clips are drawn there.
        seed: of augmentation; None: no augmentation.
        workers: processes that make scenes, waves and ids.
    """

    data: ComposedBatches
    side: int
    device: torch.device
    seed: int | None = None
    workers: int = 0

    def steps(self, start: int, stop: int) -> Iterator[StepBatch]:
        """Steps `start` … `stop - 1`, as far as there is data."""
        chosen = Subset(self.data, range(start, min(stop, len(self.data))))
        ahead = 3 if self.workers else None
        loader = DataLoader(chosen, batch_size=None, num_workers=self.workers, prefetch_factor=ahead)
        for step, batch in enumerate(loader, start):
            generator = None
            if self.seed is not None:
                generator = torch.Generator(self.device).manual_seed(self.seed * 1_000_003 + step)
            inputs = to_inputs(batch, self.side, self.device, generator)
            if "sound_targets" in batch:
                inputs["sound_targets"] = batch["sound_targets"].to(self.device)
            supervised = int((batch["labels"][:, 1:] != IGNORE).sum())
            filled = int(batch["attention_mask"].sum())
            rows, longest = batch["labels"].shape
            name = f"{batch['kind']} clips of seed {self.data.seed}, step {step}"
            yield StepBatch(step, [MicroBatch(inputs, (name,), supervised, filled, rows * longest - filled)])


def frame_times(count: int) -> NDArray[np.float64]:
    """f64[count] in 0..1: the middles of equal segments, where videos are sampled."""
    return (np.arange(count) + 0.5) / count


def _vary(textures: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """u8[K, S, S, 4]: pictures randomly mirrored and cropped."""
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
    """Ids up to the assistant's answer to the last of `turns` (user, assistant, …, user)."""
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
    return tokenise_prompt(messages, tokenizer, media, token_ids).input_ids


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
    """(ids, labels) of questions about a clip and their answers; answers with their end markers are supervised.

    Args:
        slot: kind of the clip's placeholder ("video", "image", "audio"); `counts`: its tokens per modality.
        config: has the placeholder ids; None without a clip.
        earlier: questions and answers before this one.
    """
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
