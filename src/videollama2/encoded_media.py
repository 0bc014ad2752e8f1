"""A media item on its way to the language model.

    Media ── decode ──► DecodedMedia ── encode ──► EncodedMedia          Engine does both
             a worker's   input tensors   the model's  tokens per modality
                          + receipt                    + receipt

The account (`MediaReceipt`) travels beside the tensors, never inside them: cached media have the same receipt.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from .processing import MediaInputs
from .receipt import MediaReceipt, Modality


@dataclass(frozen=True, kw_only=True)
class EncodedMedia:
    """The tokens of one media item, as the language model reads them.

    Attributes:
        tokens: [n, D] per modality, after connector or projector.
        receipt: what was used of it.
        reused: it came from a cache.
        key: its key in the cache; None: it is not cached.
    """

    tokens: dict[Modality, Tensor]
    receipt: MediaReceipt
    reused: bool = False
    key: str | None = None

    @property
    def nbytes(self) -> int:
        """Memory of the tokens."""
        return sum(t.nbytes for t in self.tokens.values())


@dataclass(frozen=True, kw_only=True)
class DecodedMedia:
    """One media item between its decoding and its encoding.

    Attributes:
        receipt: what will be used of it.
        inputs: the encoders' input tensors; None if `encoded` is given.
        encoded: found in the cache, so that nothing was decoded.
        key: its key in the cache; None: it is not cached.
    """

    receipt: MediaReceipt
    inputs: MediaInputs | None = None
    encoded: EncodedMedia | None = None
    key: str | None = None


class MediaSet:
    """The encoded media of a request, in prompt order.

    Attributes:
        protocol: name of the protocol by which they were prepared.
    """

    def __init__(
        self,
        items: Sequence[EncodedMedia] = (),
        protocol: str = "",
        decode_seconds: float = 0.0,
        encode_seconds: float = 0.0,
    ) -> None:
        self.items, self.protocol = tuple(items), protocol
        self._seconds = {"decode_seconds": decode_seconds, "encode_seconds": encode_seconds}

    @property
    def receipts(self) -> tuple[MediaReceipt, ...]:
        """What was used of each media item."""
        return tuple(item.receipt for item in self.items)

    @property
    def modalities(self) -> list[Modality]:
        """The modality of each media item's place in a prompt."""
        return [item.receipt.modality for item in self.items]

    def take_seconds(self) -> dict[str, float]:
        """Seconds spent decoding and encoding: for the first answer; zero from the second on."""
        seconds, self._seconds = self._seconds, dict.fromkeys(self._seconds, 0.0)
        return seconds
