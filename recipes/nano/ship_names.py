"""Parts, classifiers, names and trained adapters → the files that the package ships.

    python recipes/nano/ship_names.py START --adapters OUT/run/adapters.safetensors --out src/videollama2/nano

START stands for the five inputs of start.py: --gguf, --parts, --classifier, --yamnet, --names. Encoders, connector and
projector ship as 8-bit rows, the rest as float16.
"""

import argparse
import json
import shutil
import tempfile
from pathlib import Path

import torch
from encoded import MEAN, STD
from safetensors.torch import load_file, save_file
from start import starting_model

from videollama2.weights.nano import ADAPTERS, in_int8

FILES = {
    "paired_vision.safetensors": ("model.vision_encoder.",), "naming_connector.safetensors": ("model.connector.",),
    "paired_audio.safetensors": ("model.audio_encoder.", "model.audio_projector."),
}  # fmt: skip
COPIED = ("sound_classes.json", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja")
SIDE = 260
PREPROCESSOR = {
    "image_processor_type": "BitImageProcessor",
    "do_resize": True, "size": {"height": SIDE, "width": SIDE}, "resample": 3, "do_center_crop": False,
    "do_rescale": True, "rescale_factor": 1 / 255, "do_normalize": True,
    "image_mean": list(MEAN), "image_std": list(STD), "do_convert_rgb": True,
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("gguf", "parts", "classifier", "yamnet", "names", "adapters", "out"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    model = starting_model(args.parts, args.classifier, args.yamnet, args.gguf, args.names, adapters=False)
    with tempfile.TemporaryDirectory() as folder:  # written by transformers, so that names are those of a checkpoint
        model.to(torch.float16).save_pretrained(folder)
        tensors = {k: v for p in Path(folder).glob("*.safetensors") for k, v in load_file(p).items()}
        for name in ("config.json", "generation_config.json"):
            shutil.copyfile(Path(folder) / name, args.out / name)
    for name, prefixes in FILES.items():
        part = {k: v for k, v in tensors.items() if k.startswith(prefixes)}
        save_file(in_int8(part), args.out / name, metadata={"format": "pt"})
    shutil.copyfile(args.adapters, args.out / ADAPTERS)
    for name in COPIED:
        if (args.parts / name).resolve() != (args.out / name).resolve():
            shutil.copyfile(args.parts / name, args.out / name)
    (args.out / "preprocessor_config.json").write_text(json.dumps(PREPROCESSOR, indent=2) + "\n", encoding="utf-8")
    for path in sorted(args.out.iterdir()):
        print(f"{path.name:32} {path.stat().st_size / 1e6:7.2f} MB")


if __name__ == "__main__":
    main()
