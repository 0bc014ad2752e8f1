"""`videollama2 eval probe`: make the probe from a seed, and ask it."""

import argparse
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from . import terminal

_EPILOG = """examples:
  videollama2 eval probe --model nano                             offline: drawn things, sounds from formulas
  videollama2 eval probe --model M --packs PACKS --batch 8        photos, drawings, recordings (recipes/nano makes them)
  videollama2 eval probe --clips 8 --ablate ''                    a quick look
  videollama2 eval probe --make-only --out probes                 the clips and questions alone

Every clip is asked about twice, with options (probe) and openly (probe-open), and again without sound, without
pictures, and with neither, so that a question that gives its answer away shows. The clips lie in OUT/clips/probe.
"""
CLIPS = "clips"  # folder in --out


def register(
    actions: Any,
    add_flags: Callable[[argparse.ArgumentParser], None],
    out_folder: Callable[[argparse.Namespace], Path],
    run: Callable[[argparse.Namespace], int],
) -> None:
    """Add the action.

    Args:
        add_flags: adds those of `eval run`, of which `out_folder` says where results go.
        run: `eval run` itself.
    """
    parser = actions.add_parser(
        "probe", help="the offline benchmark, made from a seed", description="Make the probe, and ask it.",
        epilog=_EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("--packs", metavar="F", help="folder with pictures.npz and sounds.npz; default: a small source "
        "of drawn things and sounds from formulas")  # fmt: skip
    parser.add_argument("--clips", type=int, metavar="N", help="clips of each of the nine tasks; default: 40")
    parser.add_argument("--seed", type=int, metavar="S", help="another probe of the same kind; default: 20000")
    parser.add_argument("--only", choices=("options", "open"), help="ask in one way only; default: both")
    parser.add_argument("--make-only", action="store_true", help="make it, and ask nothing")
    add_flags(parser)

    def make_and_run(args: argparse.Namespace) -> int:
        clips = make(args, out_folder(args) / CLIPS)
        if args.make_only:
            return 0
        names = {"options": ["probe"], "open": ["probe-open"], None: ["probe", "probe-open"]}
        args.benchmarks, args.data = names[args.only], str(clips)
        return run(args)

    parser.set_defaults(func=make_and_run, ablate="audio,video,text-only")


def make(args: argparse.Namespace, clips: Path) -> Path:
    """Write what is not there yet of the probe into a folder `probe` below `clips`, which is returned."""
    from ..evals import probe

    terminal.log_to_terminal(args.verbose)
    source = probe.built_in() if args.packs is None else probe.packs(Path(args.packs))
    quiet = args.quiet or args.json
    with _progress(quiet) as told:
        made = probe.make(
            clips / "probe", source, on_progress=told,
            clips=probe.CLIPS if args.clips is None else args.clips,
            seed=probe.SEED if args.seed is None else args.seed,
        )  # fmt: skip
    if not quiet:
        terminal.say(f"probe: {made}, {source.name}")
    return clips


@contextmanager
def _progress(quiet: bool) -> Iterator[Callable[[int, int], None] | None]:
    if quiet:
        yield None
        return
    from ..progress import begin

    shown: list[Any] = []

    def told(done: int, total: int) -> None:
        if not shown:
            shown.append(begin(done, total, "clip"))
        shown[0].update(done, "making the probe")

    try:
        yield told
    finally:
        for bar in shown:
            bar.close()
