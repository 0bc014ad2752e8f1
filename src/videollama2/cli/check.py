"""`videollama2 check MODEL [CLIP]`: files, tensors, tokens and memory, before any weight is read."""

import argparse
from typing import TYPE_CHECKING, Any

from ..errors import WeightsError
from . import terminal

if TYPE_CHECKING:
    from ..preflight.check import ModelCheck
    from ..preflight.memory import MemoryNeed

_EPILOG = """examples:
  videollama2 check 2.1-7b-av                       a released model, from its built-in description
  videollama2 check ./my-checkpoint clip.mp4        a folder, and the tokens and memory of this clip
  videollama2 check 72b --frames 16 --dtype bfloat16
  videollama2 check nano --json

exit code: 0 if the model can be loaded and fits in memory; 1 if it does not fit; 4 if files or tensors are wrong
"""
_SHOWN = 8  # tensor names per kind of difference; --json lists all


def register(commands: Any) -> None:
    """Add the command and its flags."""
    parser = commands.add_parser(
        "check", help="check a model's files, tensors, tokens and memory", epilog=_EPILOG,
        description="Report what a model needs and whether it fits in memory. Reads only configurations and headers.",
    )  # fmt: skip
    add = parser.add_argument
    add("model", metavar="MODEL", help="nano, a released name, a hub id or a folder")
    add("clip", nargs="?", metavar="CLIP", help="a media file; default: a clip of typical length")
    add("--base", metavar="B", help="base model for a folder of a training stage")
    add("--revision", metavar="R", help="branch, tag or commit of a hub id; default: main branch")
    add("--frames", type=int, metavar="N", help="number of video frames to sample; default: the model's")
    add("--dtype", default="auto", metavar="T", help="auto (default), float32, bfloat16 or float16")
    add("--device", default="auto", metavar="D", help="auto (default), cpu, cuda, cuda:N or mps")
    parser.add_argument("--protocol", metavar="P", help="media preprocessing: released, full or paper")
    parser.add_argument(
        "--max-new-tokens",
        type=int,
        default=512,
        metavar="N",
        help="maximum length of the answer in tokens; default: 512",
    )
    add("--verbose", "-v", action="store_true", help="log why this device and dtype were chosen")
    add("--json", action="store_true", help="print one JSON object")
    parser.set_defaults(func=run)


def run(args: argparse.Namespace) -> int:
    """Print the report; the exit code says whether the model can be loaded and fits."""
    terminal.log_to_terminal(args.verbose)
    with terminal.progress(args.json) as on_stage:
        on_stage("reading descriptions")
        from .. import engine  # noqa: F401  imported by `ask`, too: the measured baseline must be the same
        from ..preflight.check import check_model
        from ..weights.locate import at_revision

        made = check_model(
            at_revision(args.model, args.revision), args.clip, frames=args.frames, dtype=args.dtype,
            device=args.device, base=args.base, protocol=args.protocol, new_tokens=args.max_new_tokens,
        )  # fmt: skip
    terminal.print_json(made.to_dict()) if args.json else print(report_text(made))
    if made.problems:
        return WeightsError.exit_code
    return 0 if made.fits else 1


def report_text(plan: "ModelCheck") -> str:
    """The report as text."""
    units = {"num_frames": "{:,} frames", "vocabulary": "{:,} token ids"}
    parts = [units.get(key, "{}").format(value) for key, value in plan.summary.items()]
    lines = [f"{plan.model}: {plan.source}", f"  {', '.join(parts)}"]
    lines += [f"  {note}" for note in plan.notes]
    lines += ["", *_parameters(plan), "", *_files(plan), *_tokens(plan), "", *_memory(plan)]
    if plan.problems:
        lines += ["", *(f"problem: {problem}" for problem in plan.problems)]
    return "\n".join(lines)


def size(count: float) -> str:
    """Bytes with a unit: 1.2 GiB."""
    for unit in ("B", "KiB", "MiB"):
        if abs(count) < 1024:
            return f"{count:.0f} {unit}" if unit == "B" or count >= 100 else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} GiB"


def _parameters(plan: "ModelCheck") -> list[str]:
    rows = [f"  {part:<16} {count:>15,}" for part, count in plan.parameters.items()]
    return ["parameters", *rows]


def _files(plan: "ModelCheck") -> list[str]:
    if not plan.tensors:
        return []
    lines = ["files"]
    lines += [f"  {f['file']:<44} {size(f['bytes']):>10}  {f['tensors']} tensors" for f in plan.files]
    lines.append(f"  {plan.tensors['present']} tensors found")
    for kind in ("missing", "unexpected", "misshapen"):
        found = plan.tensors[kind]
        named = [t if isinstance(t, str) else f"{t[0]} {t[1]} (expected {t[2]})" for t in found[:_SHOWN]]
        more = f" and {len(found) - _SHOWN} more (--json lists all)" if len(found) > _SHOWN else ""
        lines += [f"  {len(found)} {kind}: {', '.join(named)}{more}"] if found else []
    return [*lines, ""]


def _tokens(plan: "ModelCheck") -> list[str]:
    lines = []
    if plan.clip is not None:
        clip = plan.clip
        video = f"{clip['frames_used']} of {clip['frames_total']} frames, {clip['width']}×{clip['height']}"
        audio = clip["audio"] if clip["sound_seconds"] is None else f"{clip['sound_seconds']:g} s, {clip['audio']}"
        lines += [f"{clip['source']}: {clip['kind']}, {video}; audio: {audio}; protocol {clip['protocol']}", ""]
    order = [k for k in ("video", "image", "audio", "text", "prompt", "answer") if k in plan.tokens]
    lines += ["tokens", *(f"  {kind:<16} {plan.tokens[kind]:>15,}" for kind in order)]
    lines.append(f"  {'context':<16} {plan.context:>15,}")
    cache = f"{size(plan.kv_cache)} ({size(plan.kv_cache_per_token)} per token)"
    return [*lines, f"  {'KV cache':<16} {cache:>15}"]


def _memory(plan: "ModelCheck") -> list[str]:
    lines = [f"memory on {plan.device} in {plan.dtype} ({plan.reason})"]
    for need in plan.memory:
        lines += _need(need)
    return [*lines, _verdict(plan)]


def _need(need: "MemoryNeed") -> list[str]:
    back = f", of which {size(need.reclaimable)} are reclaimable file pages" if need.reclaimable else ""
    stage = max(need.stages, key=lambda name: need.stages[name])
    return [
        f"  {need.kind}: {size(need.available)} available of {size(need.total)}",
        f"    before loading {size(need.baseline):>10}",
        f"    loading        {size(need.loading):>10}  peak{back}",
        f"    answering      {size(need.answering):>10}  peak, in {stage}",
    ]


def _verdict(plan: "ModelCheck") -> str:
    if plan.fits:
        return "  fits in memory"
    short = next(need for need in plan.memory if not need.fits)
    most = max(short.loading - short.reclaimable, short.answering)
    hint = " --dtype bfloat16 halves it." if plan.dtype == "float32" else ""
    return f"  does NOT fit: needs {size(most)} of {short.kind}, {size(short.available)} available.{hint}"
