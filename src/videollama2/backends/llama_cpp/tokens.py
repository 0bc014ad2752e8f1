"""The tokenizer in a GGUF file, for other programs: answers here use the checkpoint's own."""

import json
from typing import Any

import gguf

_NORMAL, _UNKNOWN, _CONTROL, _USER, _UNUSED, _BYTE = 1, 2, 3, 4, 5, 6  # enum llama_token_type


def add_tokenizer(writer: gguf.GGUFWriter, tokenizer: Any, vocab_size: int) -> None:
    """Write a fast tokenizer's vocabulary, merges, special tokens and chat template.

    Args:
        vocab_size: of the model; ids beyond the tokenizer's are marked as unused.
    """
    plain = json.loads(tokenizer.backend_tokenizer.to_str())
    model = plain["model"]
    sentencepiece = bool(model.get("byte_fallback"))
    tokens, kinds = _tokens(tokenizer, model, vocab_size)
    writer.add_tokenizer_model("llama" if sentencepiece else "gpt2")
    writer.add_tokenizer_pre("default" if sentencepiece else _pre(json.dumps(plain.get("pre_tokenizer"))))
    writer.add_token_list(tokens)
    writer.add_token_types(kinds)
    merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in model.get("merges") or ()]
    if sentencepiece:  # its merges are implied by scores: a better one is applied earlier
        ranks = {merge.replace(" ", ""): -float(i) for i, merge in reversed(list(enumerate(merges)))}
        writer.add_token_scores([ranks.get(token, -1e6) for token in tokens])
    elif merges:
        writer.add_token_merges(merges)
    special = {"bos": writer.add_bos_token_id, "eos": writer.add_eos_token_id, "pad": writer.add_pad_token_id}
    for name, add in special.items():
        found = getattr(tokenizer, f"{name}_token_id")
        if found is not None and found < vocab_size:
            add(found)
    if isinstance(tokenizer.chat_template, str):
        writer.add_chat_template(tokenizer.chat_template)


def _tokens(tokenizer: Any, model: dict[str, Any], vocab_size: int) -> tuple[list[str], list[int]]:
    tokens, kinds = [f"[PAD{i}]" for i in range(vocab_size)], [_UNUSED] * vocab_size
    for token, i in model["vocab"].items():
        if i < vocab_size:
            byte = bool(model.get("byte_fallback")) and len(token) == 6 and token.startswith("<0x")
            tokens[i], kinds[i] = token, _BYTE if byte else _NORMAL
    for i, added in tokenizer.added_tokens_decoder.items():
        if i < vocab_size:
            tokens[i], kinds[i] = added.content, _CONTROL if added.special else _USER
    unknown = tokenizer.unk_token_id
    if model.get("byte_fallback") and unknown is not None and unknown < vocab_size:
        kinds[unknown] = _UNKNOWN
    return tokens, kinds


def _pre(rules: str) -> str:
    """llama.cpp's name of the rules that split text into words."""
    if "{1,3}" in rules:
        return "llama-bpe"
    if '"Digits"' in rules:
        return "smollm"
    return "qwen2" if "\\\\p{N}" in rules else "default"
