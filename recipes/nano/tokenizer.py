"""SmolLM2's tokenizer, from the metadata of its GGUF → tokenizer.json and tokenizer_config.json (with chat template).

python recipes/nano/tokenizer.py SmolLM2-135M-Instruct.Q4_1.gguf OUT
"""

import argparse
import json
from pathlib import Path

from gguf import GGUFReader
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

CONTROL = 3  # GGUF's token type of control tokens


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("gguf", type=Path)
    parser.add_argument("out", type=Path)
    args = parser.parse_args()
    reader = GGUFReader(args.gguf)
    read = {k.removeprefix("tokenizer."): f.contents() for k, f in reader.fields.items() if k.startswith("tokenizer.")}
    tokens, kinds = read["ggml.tokens"], read["ggml.token_type"]
    merges = [tuple(m.split(" ")) for m in read["ggml.merges"]]
    tokenizer = Tokenizer(models.BPE({t: i for i, t in enumerate(tokens)}, merges))
    # llama.cpp's "smollm" pre-tokenizer: digits one by one, then GPT-2's pattern on bytes
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    controls = [t for t, kind in zip(tokens, kinds, strict=True) if kind == CONTROL]
    tokenizer.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in controls])
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=tokens[read["ggml.bos_token_id"]],
        eos_token=tokens[read["ggml.eos_token_id"]],
        pad_token=tokens[read["ggml.padding_token_id"]],
        unk_token=tokens[read["ggml.unknown_token_id"]],
        clean_up_tokenization_spaces=False,
        model_max_length=8192,
    )
    fast.chat_template = read["chat_template"]
    fast.save_pretrained(args.out)
    list_control_tokens(args.out, tokenizer)
    print(f"{args.out}: {len(fast)} tokens, {len(controls)} of them control tokens; end token {fast.eos_token!r}")


def list_control_tokens(folder: Path, tokenizer: Tokenizer) -> None:
    """Name them in tokenizer_config.json, else transformers parses tokenizer.json for them at each start (0.15 s)."""
    path = folder / "tokenizer_config.json"
    flags = ("content", "single_word", "lstrip", "rstrip", "normalized", "special")
    config = json.loads(path.read_text(encoding="utf-8"))
    config["added_tokens_decoder"] = {
        str(i): {flag: getattr(token, flag) for flag in flags}
        for i, token in sorted(tokenizer.get_added_tokens_decoder().items())
    }
    path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
