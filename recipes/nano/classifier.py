"""EfficientNet-Lite2: the state dict of a package → a folder of videollama2's EfficientNetLite.

    python recipes/nano/classifier.py efficientnet-lite2-9656183e.pth OUT

Every convolution is followed by a batch norm, which is folded into it.
"""

import argparse
from pathlib import Path

import torch
from torch import Tensor

from videollama2.efficientnet_lite import EfficientNetLite, EfficientNetLiteConfig

EPSILON = 1e-3  # of the original's batch norms
PARTS = (("_expand_conv", "_bn0", "expand"), ("_depthwise_conv", "_bn1", "depthwise"),
         ("_project_conv", "_bn2", "project"))  # fmt: skip


def folded(tensors: dict[str, Tensor], conv: str, norm: str) -> tuple[Tensor, Tensor]:
    """Weight and bias of a convolution and the batch norm behind it."""
    scale = tensors[f"{norm}.weight"] / (tensors[f"{norm}.running_var"] + EPSILON).sqrt()
    bias = tensors[f"{norm}.bias"] - tensors[f"{norm}.running_mean"] * scale
    return tensors[f"{conv}.weight"] * scale[:, None, None, None], bias


def state_dict(tensors: dict[str, Tensor], stages: tuple[tuple[int, ...], ...]) -> dict[str, Tensor]:
    """The original's tensors under our names; a KeyError names one that is missing."""
    last = len(stages)
    pairs = {"embeddings": ("_conv_stem", "_bn0"), f"blocks.{last}.conv": ("_conv_head", "_bn1")}
    number = 0
    for s, (_, _, expansion, _, depth) in enumerate(stages):
        for i in range(depth):
            for conv, norm, name in PARTS if expansion != 1 else PARTS[1:]:
                pairs[f"blocks.{s}.{i}.{name}"] = f"_blocks.{number}.{conv}", f"_blocks.{number}.{norm}"
            number += 1
    out = {}
    for ours, (conv, norm) in pairs.items():
        out[f"{ours}.weight"], out[f"{ours}.bias"] = folded(tensors, conv, norm)
    return out | {"classifier.weight": tensors["_fc.weight"], "classifier.bias": tensors["_fc.bias"]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pth", type=Path)
    parser.add_argument("out", type=Path)
    args = parser.parse_args()
    model = EfficientNetLite(EfficientNetLiteConfig())
    model.load_state_dict(state_dict(torch.load(args.pth, weights_only=True), model.config.stages))
    model.to(torch.float16).save_pretrained(args.out)
    print(f"{args.out}: {sum(p.numel() for p in model.parameters()):,} parameters")


if __name__ == "__main__":
    main()
