"""`videollama2 data list`: the training sets, what is known of their use, and what a user's folders have of them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..built import MANIFEST, read_set_manifest
from .contract import TrainingSet
from .finding import sources_of

_STAGES = "V1 video_align, V2 video_tune, A1 audio_align, A2 audio_tune, AV av_joint, other: not in the paper's mixture"


def built(folder: Path, name: str) -> dict[str, Any] | None:
    """The manifest of a built set; None if it isn't built. Raises as `read_set_manifest`."""
    return read_set_manifest(folder / name) if (folder / name / MANIFEST).is_file() else None


def sets_table(sets: Sequence[TrainingSet], folder: Path | None = None) -> str:
    """One line per set; with the folder of built sets also what is built."""
    head = ["set", "phases", "kind", "published", "paper", *(["built", "no media"] if folder else [])]
    lines = [head]
    for each in sets:
        line = [each.name, " ".join(each.stages), each.kind, _count(each.published), _count(each.paper)]
        if folder is not None:
            manifest = built(folder, each.name)
            line += ["–", "–"] if manifest is None else [_count(manifest["kept"]), _count(manifest["missing_media"])]
        lines.append(line)
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    rows = [
        "  ".join(cell.ljust(width) if column < 3 else cell.rjust(width) for column, (cell, width) in
                  enumerate(zip(line, widths, strict=True))).rstrip()
        for line in lines
    ]  # fmt: skip
    return "\n".join([*rows, "", f"phases: {_STAGES}", "published, paper: records; ?: not given"])


def details(each: TrainingSet, annotations: Path | None = None) -> str:
    """Everything about a set: files, numbers, what is known, what is our choice; and the files found in a folder."""
    lines = [
        f"{each.name}: {each.title} ({each.kind}; {', '.join(each.stages)})",
        f"  published: {_count(each.published)} records; the paper used {_count(each.paper)}",
        f"  known: {each.known}",
        f"  our choice: {each.choice}",
        f"  licence: {each.licence}",
        f"  media: {each.ask}",
    ]
    lines += [f"  not found: {each.not_found}"] if each.not_found else []
    lines += [f"  reads {' or '.join(form.patterns)}: {form.what}" for form in each.files]
    lines.append(
        '  or [{"video" | "audio" | "image": path, "conversations": [{"from", "value"}, …]}, …], or with messages'
    )
    if annotations is not None:
        lines += [f"  found {source.path}" for source in sources_of(each, annotations)]
    return "\n".join(lines)


def set_facts(each: TrainingSet, folder: Path | None = None) -> dict[str, Any]:
    """A set as plain data, with its manifest if it is built in the folder."""
    names = "name title kind stages published paper known choice licence ask not_found prompts".split()
    files = [{"patterns": form.patterns, "what": form.what, "required": form.required} for form in each.files]
    manifest = None if folder is None else built(folder, each.name)
    return {**{name: getattr(each, name) for name in names}, "files": files, "built": manifest}


def _count(number: int | None) -> str:
    return "?" if number is None else f"{number:,}"
