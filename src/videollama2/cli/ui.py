"""`videollama2 ui`: the server with its page, for one's own browser."""

import argparse
import threading
import time
import webbrowser
from typing import Any
from urllib.parse import urlsplit

from ..errors import StorageError, UsageError
from . import terminal
from .serve import add_server_flags, address_of, settings_of

_EPILOG = """examples:
  videollama2 ui                                nano, and the page at http://127.0.0.1:8000
  videollama2 ui --open                         the same, and shows it
  videollama2 ui --model 2.1-7b-av --port 8080
  videollama2 ui --server https://gpu.example.org --open     the page of a server that runs elsewhere

Browsers allow the camera and the microphone to pages of this machine, and to others over HTTPS only.
"""


def register(commands: Any) -> None:
    """Add the command and its flags."""
    parser = commands.add_parser(
        "ui", help="a page to ask about clips in a browser", description="Ask about clips in a browser.",
        epilog=_EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("--open", action="store_true", help="show the page in the browser")
    parser.add_argument("--server", metavar="URL", help="show the page of this server; none is started here")
    add_server_flags(parser)
    terminal.add_model_flags(parser)
    parser.set_defaults(func=run)


def run(args: argparse.Namespace) -> int:
    """Serve the page until a signal comes; or show another server's."""
    if args.server is not None:
        parts = urlsplit(args.server)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise UsageError(f"--server {args.server!r} is no address of a server; expected http://HOST:PORT")
        _show(args.server, args.open)
        return 0
    if args.no_page:
        raise UsageError("--no-page leaves nothing to show; videollama2 serve --no-page serves the API alone")
    settings, address = settings_of(args), address_of(args)
    from ..serve.app import create_app
    from ..serve.running import Running

    terminal.log_to_terminal(args.verbose)
    with terminal.progress(False) as on_stage:
        engine = terminal.load_engine(args, on_stage, protocol=args.protocol, fp16_weights=args.fp16_weights)
        app = create_app(engine, settings)
        app.state.server.decoding.start()
    running = Running(app, settings, address)
    host = f"[{args.host}]" if ":" in args.host else args.host
    url = f"{'https' if args.tls_cert else 'http'}://{host}:{args.port}/"
    threading.Thread(target=_show_once_it_runs, args=(running, url, args.open), daemon=True).start()
    try:
        running.run()
    except OSError as error:
        raise StorageError(f"the server can't start: {error.strerror or error}") from error
    return 0


def _show_once_it_runs(running: Any, url: str, in_browser: bool) -> None:
    while not running.started and not running.should_exit:
        time.sleep(0.05)
    if running.started:
        _show(url, in_browser)


def _show(url: str, in_browser: bool) -> None:
    terminal.say(f"the page is at {url}")
    if in_browser and not webbrowser.open(url):
        terminal.say("no browser could be opened here; open the address yourself", style="yellow")
