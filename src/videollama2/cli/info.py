"""`videollama2 info [MODEL]`: what a model is, its licences, and where its parts come from."""

import argparse
from pathlib import Path
from typing import Any

from . import terminal

_EPILOG = """examples:
  videollama2 info                 the names of all released models
  videollama2 info 2.1-7b-av
  videollama2 info nano            its model card
  videollama2 info ./my-checkpoint
"""
CARDS = ("MODEL_CARD.md", "README.md")


def register(commands: Any) -> None:
    """Add the command and its flags."""
    parser = commands.add_parser(
        "info", help="show a model's card, licence and provenance",
        description="Show what a model is, its licences, and where its parts come from. Reads no weights.",
        epilog=_EPILOG,
    )  # fmt: skip
    parser.add_argument("model", nargs="?", metavar="MODEL", help="nano, a released name, a hub id or a folder")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.set_defaults(func=run)


def run(args: argparse.Namespace) -> int:
    """Print the card."""
    terminal.log_to_terminal(False)
    found = overview() if args.model is None else about(args.model)
    terminal.print_json(found) if args.json else print(_text(found))
    return 0


def overview() -> dict[str, Any]:
    """All built-in models."""
    from ..weights.catalog import RELEASES

    return {
        "models": [{"name": "nano", "hub_id": None, "summary": "small, built in, the default"}]
        + [{"name": r.short_name, "hub_id": r.hub_id, "summary": _one_line(r)} for r in RELEASES]
    }


def about(model: str) -> dict[str, Any]:
    """Everything known about one model.

    Raises:
        CheckpointNotFound: unknown model. ConfigError: its config.json can't be read.
    """
    folder = Path(model)
    if folder.is_dir():
        return _folder(folder.resolve().name, folder)
    if model == "nano":
        from ..weights.nano_cache import SHIPPED

        return {**_folder("nano", SHIPPED), "kind": "the default; its base language model is downloaded on first use"}
    from ..weights.catalog import PAPER, TERMS, find

    release = find(model)
    return {
        "name": release.hub_id,
        "summary": _one_line(release),
        "published": release.published,
        "kind": "instruction-tuned" if release.chat else "pre-trained connector only; merge it with its parts",
        "num_frames": release.num_frames,
        "connector": release.connector,
        "parts": {role: {"source": part.source, "licence": part.licence} for role, part in release.parts.items()},
        "licence": TERMS,
        "paper": PAPER,
    }


def _one_line(release: Any) -> str:
    audio = ", audio" if release.audio is not None else ""
    tuned = "chat" if release.chat else "base"
    return f"{release.language.source.split('/')[-1]}, {release.num_frames} frames{audio}, {tuned}"


def _folder(name: str, folder: Path) -> dict[str, Any]:
    from ..errors import CheckpointNotFound
    from ..preflight.check import summary
    from ..weights import stages

    if not folder.is_dir() or not any((folder / f).is_file() for f in ("config.json", "adapter_config.json")):
        raise CheckpointNotFound(f"{folder}: no config.json; expected a checkpoint folder.")
    found: dict[str, Any] = {"name": name, "kind": stages.kind(folder)}
    if (folder / "config.json").is_file():
        config = stages.read_config(folder)
        found |= summary(config)
    base = stages.named_base(folder)
    if base is not None:
        found["base"] = base
    licence = next((p.name for p in sorted(folder.iterdir()) if p.stem.lower() in ("license", "licence")), None)
    found["licence"] = licence or "not stated in this folder"
    card = next((folder / c for c in CARDS if (folder / c).is_file()), None)
    found["card"] = None if card is None else card.read_text(encoding="utf-8", errors="replace")
    return found


def _text(found: dict[str, Any]) -> str:
    if "models" in found:
        return "\n".join(f"{m['name']:<16} {m['summary']}" for m in found["models"])
    lines = []
    for key, value in found.items():
        if key == "card":
            continue
        if isinstance(value, dict):
            lines.append(f"{key.replace('_', ' ')}:")
            lines += [f"  {role}: {part['source']} ({part['licence']})" for role, part in value.items()]
        else:
            lines.append(f"{key.replace('_', ' ')}: {value}")
    return "\n".join(lines) + (f"\n\n{found['card']}" if found.get("card") else "")
