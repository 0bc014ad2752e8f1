"""What a session keeps of its last prompt and answer."""

from collections.abc import Sequence
from typing import Any

from transformers import DynamicCache


class PrefixCache:
    """Keys and values of the last prompt and its answer, reused for the prefix that the next prompt shares."""

    def __init__(self, model: Any) -> None:
        self.ids: list[int] = []  # of the positions in the cache
        self._model = model
        self._cache: DynamicCache | None = None

    def take(self, ids: Sequence[int]) -> DynamicCache:
        """The cache, cut to the prefix it shares with `ids`; it belongs to the caller until `give_back`."""
        cache, self._cache = self._cache, None
        if cache is None or any(layer.is_sliding for layer in cache.layers):
            # a sliding window has dropped its beginning and can't be cut
            return DynamicCache(config=self._model.config.text_config)
        shared = 0
        # at least one position must be left to compute
        for ours, theirs in zip(self.ids, ids[:-1], strict=False):
            if ours != theirs:
                break
            shared += 1
        cache.crop(shared - cache.get_seq_length())
        return cache

    def give_back(self, cache: DynamicCache, ids: Sequence[int]) -> None:
        """Store the cache, which has the beginning of `ids`, for the next prompt."""
        self._cache, self.ids = cache, list(ids[: cache.get_seq_length()])
