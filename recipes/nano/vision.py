"""DINOv2 ViT-S/14: the ONNX graph of a package → a transformers Dinov2Model folder.

    python recipes/nano/vision.py dinov2_vits14_patch_8x8.onnx OUT [--layers 11] [--dtype float16]

The graph keeps the names of biases, norms, layer scales, class token and patch embedding. The 48 weight matrices are
anonymous and transposed, in graph order qkv, proj, fc1, fc2 of block 0, 1, …; the patch position table is the anonymous
(1, 1369, 384) tensor. The class token has no separate position: the graph adds the class token to itself (node 0 is
`Identity(cls_token)`, which node 52 concatenates before the patch positions), so in transformers' layout
`position_embeddings[:, 0] = cls_token`.
"""

import argparse
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from safetensors.torch import save_file
from transformers import Dinov2Config, Dinov2Model

WIDTH, BLOCKS = 384, 12
MATRICES = {(WIDTH, 3 * WIDTH), (WIDTH, WIDTH), (WIDTH, 4 * WIDTH), (4 * WIDTH, WIDTH)}


def graph_tensors(path: Path) -> tuple[dict[str, np.ndarray], list[np.ndarray], np.ndarray]:
    """(named tensors, the 48 matrices in graph order, the patch positions [1, 1369, 384])."""
    graph = onnx.load(str(path)).graph
    tensors = {i.name: numpy_helper.to_array(i) for i in graph.initializer}
    matrices = [
        tensors[n.input[1]]
        for n in graph.node
        if n.op_type == "MatMul" and n.input[1] in tensors and tensors[n.input[1]].shape in MATRICES
    ]
    if len(matrices) != 4 * BLOCKS:
        raise SystemExit(f"found {len(matrices)} weight matrices, expected {4 * BLOCKS}: not the expected graph")
    positions = next(t for t in tensors.values() if t.shape == (1, 37 * 37, WIDTH))
    return tensors, matrices, positions


def state_dict(path: Path) -> dict[str, torch.Tensor]:
    """All of Dinov2Model's tensors, under the names of the original transformers release."""
    named, matrices, positions = graph_tensors(path)
    token = named["model.cls_token"]
    out = {
        "embeddings.cls_token": token,
        "embeddings.mask_token": np.zeros((1, WIDTH), np.float32),
        "embeddings.position_embeddings": np.concatenate([token, positions], axis=1),
        "embeddings.patch_embeddings.projection.weight": named["model.patch_embed.proj.weight"],
        "embeddings.patch_embeddings.projection.bias": named["model.patch_embed.proj.bias"],
        "layernorm.weight": named["model.norm.weight"],
        "layernorm.bias": named["model.norm.bias"],
    }
    for b in range(BLOCKS):
        qkv, proj, fc1, fc2 = (m.T for m in matrices[4 * b : 4 * b + 4])
        source, target = f"model.blocks.{b}.", f"encoder.layer.{b}."
        parts = zip(
            ("query", "key", "value"), np.split(qkv, 3), np.split(named[source + "attn.qkv.bias"], 3), strict=True
        )
        for name, weight, bias in parts:
            out[f"{target}attention.attention.{name}.weight"], out[f"{target}attention.attention.{name}.bias"] = (
                weight,
                bias,
            )
        for name, weight, bias in (
            ("attention.output.dense", proj, "attn.proj.bias"),
            ("mlp.fc1", fc1, "mlp.fc1.bias"),
            ("mlp.fc2", fc2, "mlp.fc2.bias"),
        ):
            out[f"{target}{name}.weight"], out[f"{target}{name}.bias"] = weight, named[source + bias]
        for ours, theirs in (("layer_scale1.lambda1", "ls1.gamma"), ("layer_scale2.lambda1", "ls2.gamma")):
            out[target + ours] = named[source + theirs]
        for norm in ("norm1", "norm2"):
            for p in ("weight", "bias"):
                out[f"{target}{norm}.{p}"] = named[f"{source}{norm}.{p}"]
    return {k: torch.from_numpy(np.ascontiguousarray(v)) for k, v in out.items()}


def vision_config(layers: int = BLOCKS, image_size: int = 518) -> Dinov2Config:
    return Dinov2Config(
        hidden_size=WIDTH,
        num_hidden_layers=layers,
        num_attention_heads=6,
        mlp_ratio=4,
        patch_size=14,
        image_size=image_size,
    )


def compare_with_graph(model: Dinov2Model, path: Path) -> float:
    """Largest difference from onnxruntime's 8×8 map on a random picture, with the graph's 16×16 positions."""
    import onnxruntime

    source = onnx.load(str(path))
    name = next(n.output[0] for n in source.graph.node if n.op_type == "Concat" and "cls_token" not in n.input[0]
                and any("Reshape_2" in i for i in n.input))  # fmt: skip
    source.graph.output.append(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None))
    session = onnxruntime.InferenceSession(source.SerializeToString(), providers=["CPUExecutionProvider"])
    picture = np.random.default_rng(0).standard_normal((1, 3, 224, 224)).astype(np.float32)
    expected, positions = session.run(["output", name], {"input": picture})
    model.embeddings.interpolate_pos_encoding = lambda *_: torch.from_numpy(positions)
    with torch.no_grad():
        tokens = model(torch.from_numpy(picture)).last_hidden_state[:, 1:]
    ours = torch.nn.functional.avg_pool2d(tokens.view(1, 16, 16, WIDTH).permute(0, 3, 1, 2), 2).permute(0, 2, 3, 1)
    return float((ours - torch.from_numpy(expected)).abs().max())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("onnx", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--layers", type=int, default=BLOCKS, help="keep this many blocks (default: all 12)")
    parser.add_argument("--dtype", default="float16", choices=("float16", "float32"))
    parser.add_argument("--compare", action="store_true", help="compare with onnxruntime")
    args = parser.parse_args()

    args.out.mkdir(parents=True, exist_ok=True)
    tensors = state_dict(args.onnx)
    whole = args.out / "original-names"
    whole.mkdir(exist_ok=True)
    save_file(tensors, str(whole / "model.safetensors"), metadata={"format": "pt"})
    vision_config().save_pretrained(whole)
    model, info = Dinov2Model.from_pretrained(whole, output_loading_info=True)
    missed = {k: v for k, v in info.items() if v}
    if missed:
        raise SystemExit(f"the tensors don't fit Dinov2Model: {missed}")
    if args.compare:
        print(f"largest difference from the graph: {compare_with_graph(model.eval(), args.onnx):.2e}")
    model = Dinov2Model.from_pretrained(whole)
    shorter = Dinov2Model(vision_config(args.layers))
    shorter.load_state_dict({k: v for k, v in model.state_dict().items() if k in shorter.state_dict()})
    shorter.to(getattr(torch, args.dtype)).save_pretrained(args.out)
    print(f"{args.out}: {sum(p.numel() for p in shorter.parameters()):,} parameters")


if __name__ == "__main__":
    main()
