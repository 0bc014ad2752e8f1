"""Trained parts → the files that the package ships (float16 safetensors, configurations, tokenizer).

    python recipes/nano/ship.py --parts RUN/parts.safetensors --vision DINOV2_FOLDER --tokenizer FOLDER \
        --sounds sounds.npz --out src/videollama2/nano
"""

import argparse
import json
import shutil
import tempfile
from pathlib import Path

import torch
from model import SIDE, nano_config, sound_classes, vision_tensors
from safetensors.torch import load_file, save_file

from videollama2.modeling import VideoLlama2ForConditionalGeneration
from videollama2.weights.nano import ADAPTERS, LANGUAGE_PREFIX

FILES = {
    "vision_encoder.safetensors": ("model.vision_encoder.",),
    "connector.safetensors": ("model.connector.",),
    "audio.safetensors": ("model.audio_encoder.", "model.audio_projector."),
}
PREPROCESSOR = {
    "image_processor_type": "BitImageProcessor",
    "do_resize": True, "size": {"height": SIDE, "width": SIDE}, "resample": 3, "do_center_crop": False,
    "do_rescale": True, "rescale_factor": 1 / 255, "do_normalize": True,
    "image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225], "do_convert_rgb": True,
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("parts", "vision", "tokenizer", "sounds", "out"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    classes = sound_classes(args.sounds)
    model = VideoLlama2ForConditionalGeneration(nano_config(len(classes)))
    parts = load_file(args.parts)
    adapters = {k.removeprefix(LANGUAGE_PREFIX): v for k, v in parts.items() if ".lora_" in k}
    trained = {k: v.float() for k, v in parts.items() if ".lora_" not in k}
    missing, unexpected = model.load_state_dict(trained, strict=False)
    untrained = [k for k in missing if not k.startswith((LANGUAGE_PREFIX, "lm_head.", "model.vision_encoder."))]
    if unexpected or untrained:
        raise SystemExit(f"the parts do not fit: unexpected {unexpected}, missing {untrained}")
    model.model.vision_encoder.load_state_dict(vision_tensors(args.vision, SIDE))
    with (
        tempfile.TemporaryDirectory() as folder
    ):  # written by transformers, so that its names are those of a checkpoint
        model.to(torch.float16).save_pretrained(folder)
        tensors = {k: v for p in Path(folder).glob("*.safetensors") for k, v in load_file(p).items()}
        shutil.copyfile(Path(folder) / "config.json", args.out / "config.json")
        shutil.copyfile(Path(folder) / "generation_config.json", args.out / "generation_config.json")
    for name, prefixes in FILES.items():
        chosen = {k: v.contiguous() for k, v in tensors.items() if k.startswith(prefixes)}
        save_file(chosen, args.out / name, metadata={"format": "pt"})
    save_file({k: v.contiguous() for k, v in adapters.items()}, args.out / ADAPTERS, metadata={"format": "pt"})
    (args.out / "preprocessor_config.json").write_text(json.dumps(PREPROCESSOR, indent=2) + "\n", encoding="utf-8")
    (args.out / "sound_classes.json").write_text(json.dumps(classes, indent=1) + "\n", encoding="utf-8")
    for name in ("tokenizer_config.json", "chat_template.jinja"):
        shutil.copyfile(args.tokenizer / name, args.out / name)
    tokenizer = json.loads((args.tokenizer / "tokenizer.json").read_text(encoding="utf-8"))
    compact = json.dumps(tokenizer, ensure_ascii=False, separators=(",", ":"))
    (args.out / "tokenizer.json").write_text(compact, encoding="utf-8")
    for path in sorted(args.out.iterdir()):
        print(f"{path.name:32} {path.stat().st_size / 1e6:7.2f} MB")


if __name__ == "__main__":
    main()
