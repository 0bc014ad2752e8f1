"""`videollama2 when FILE EVENT`: find when something happens in a clip."""

import argparse
from typing import Any

from . import arguments, terminal, windows

_EPILOG = """examples:
  videollama2 when clip.mp4 "the door opens"                  one JSON object per span: start, end, score
  videollama2 when clip.mp4 "a dog barks" --window 2 --overlap 1 --threshold 0.7
  videollama2 when clip.mp4 "someone laughs" --json           one JSON object with spans, windows and receipts
  videollama2 when clip.mp4 "the door opens" --out door.srt

The model is asked about each window whether the event happens in it; the score is the probability of yes versus no.
Adjacent windows at or above the threshold form a span. Scores are uncalibrated: tune the threshold on your own clips.

exit code: 3 if a window failed; the remaining windows are still scored
"""


def register(commands: Any) -> None:
    """Add the command and its flags."""
    parser = commands.add_parser(
        "when", help="find when something happens in a clip", epilog=_EPILOG,
        description="Find when something happens in a clip, as JSON spans with scores.",
    )  # fmt: skip
    parser.add_argument("medium", metavar="FILE", help="a video or audio file")
    parser.add_argument("event", metavar="EVENT", help='the event to find, such as "the door opens"')
    parser.add_argument(
        "--threshold", type=float, default=0.5, metavar="P", help="lowest score at which a window counts; default: 0.5"
    )
    windows.add_flags(parser, seconds=5.0, results="spans")
    arguments.add_model_flags(parser)
    arguments.add_media_flags(parser)
    parser.add_argument("--system", metavar="TEXT", help="replace the model's system prompt")
    parser.set_defaults(func=run, max_new_tokens=1, temperature=0.0, top_p=None, seed=None)


def run(args: argparse.Namespace) -> int:
    """Print the spans."""
    arguments.trim_torch(args)
    from ..live.events import WindowScore, when

    asked = windows.prepared(args, args.event)

    def shown(window: WindowScore, total: int) -> None:
        if not args.json:
            score = f"{window.score:.2f}" if window.score is not None else f"no score: {window.error}"
            terminal.say(f"{windows.span(window)} {score}", style="dim")

    with terminal.without_losses(args.verbose):
        found = when(
            asked.engine, asked.request, window=args.window, overlap=args.overlap, threshold=args.threshold,
            subtitles=asked.subtitles, on_window=shown,
        )  # fmt: skip
    windows.write_out(asked.out, found.subtitles)
    if args.json:
        terminal.print_json(found.to_dict())
        return windows.exit_code(found.windows)
    for span in found.spans:
        terminal.print_json(span.to_dict())
    if args.receipt:
        windows.print_receipts(found.windows)
    return windows.exit_code(found.windows)
