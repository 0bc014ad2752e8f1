"""The model class of lmms-eval. Only lmms-eval imports it, in its own environment."""

import logging
from collections.abc import Sequence
from typing import Any, NoReturn

from lmms_eval.api.model import lmms

from ..errors import StorageError, UsageError, VideoLlama2Error, WorkerError
from ..loading import load
from ..media.clip_cache import ClipCache
from .lmms import LmmsOptions, request

logger = logging.getLogger(__name__)

_ERRORS = ("raise", "empty")


class VideoLlama2(lmms):
    """Our Engine behind lmms-eval's interface.

    Args:
        model: what `videollama2.load` takes; `pretrained` is the same under lmms-eval's usual name.
        device, dtype, protocol, frames, audio: as on our command line.
        errors: "raise" (default) ends the run at the first item that can't be asked; "empty" replies nothing and warns.
            lmms-eval has no outcome for such an item, and some of its tasks score an empty reply by a random letter.
    """

    is_simple = False

    def __init__(
        self, model: str | None = None, pretrained: str | None = None, device: str | None = None,
        dtype: str | None = None, protocol: str | None = None, frames: Any = None, audio: Any = True,
        errors: str = "raise", batch_size: Any = 1, **unknown: Any,
    ) -> None:  # fmt: skip
        super().__init__()
        unknown = {name: value for name, value in unknown.items() if name not in ("max_batch_size",)}
        if unknown or errors not in _ERRORS or (model and pretrained):
            raise UsageError(
                f"--model_args: {', '.join(unknown) or f'errors={errors}, model={model}, pretrained={pretrained}'}; "
                "expected some of model (or pretrained), device, dtype, protocol, frames, audio, errors=raise|empty."
            )
        self._errors, self._options = errors, LmmsOptions.of(protocol, frames, audio)
        self.engine = load(model or pretrained or "nano", device=device, dtype=dtype)
        self.engine.opener = ClipCache(self.engine.opener)

    def generate_until(self, requests: Sequence[Any]) -> list[str]:
        """The reply to each request, in order."""
        replies, failed = [], 0
        for instance in requests:
            _, to_messages, generation, doc, task, split = instance.args
            try:
                asked = request(to_messages(self.task_dict[task][split][doc]), generation, self._options)
                replies.append(self.engine.answer(asked).text)
            except (StorageError, WorkerError):
                raise
            except VideoLlama2Error as error:
                if self._errors == "raise":
                    error.add_note(f"{task}, {split} {doc}; errors=empty in --model_args continues with an empty reply")
                    raise
                logger.warning("%s, %s %s has no reply: %s: %s", task, split, doc, type(error).__name__, error)
                replies.append("")
                failed += 1
        if failed:
            logger.warning("%d of %d items failed; their replies are empty", failed, len(requests))
        return replies

    def loglikelihood(self, requests: Sequence[Any]) -> NoReturn:
        """Not supported."""
        raise NotImplementedError("videollama2 only generates text; use a task with output_type: generate_until")

    def generate_until_multi_round(self, requests: Sequence[Any]) -> NoReturn:
        """Not supported."""
        raise NotImplementedError("videollama2 answers one round; use a task with output_type: generate_until")
