"""`videollama2 ui`: the server with its web page, for your own browser."""

import argparse
import threading
import time
import webbrowser
from typing import Any
from urllib.parse import urlsplit

from ..errors import StorageError, UsageError
from . import arguments, terminal
from .serve import add_server_flags, address_of, settings_of

_EPILOG = """examples:
  videollama2 ui                                nano; the page is at http://127.0.0.1:8000
  videollama2 ui --open                         also open it in the browser
  videollama2 ui --model 2.1-7b-av --port 8080
  videollama2 ui --server https://gpu.example.org --open     the page of another server

Browsers allow a page to use the camera and the microphone only on this computer or over HTTPS.
"""


def register(commands: Any) -> None:
    """Add the command and its flags."""
    parser = commands.add_parser(
        "ui", help="ask about clips in a browser", description="Ask about clips in a browser.", epilog=_EPILOG,
        usage="videollama2 ui [OPTION ...]",
    )  # fmt: skip
    parser.add_argument("--open", action="store_true", help="open the page in the browser")
    parser.add_argument("--server", metavar="URL", help="show the page of this server instead of starting one")
    arguments.add_model_flags(parser)
    add_server_flags(parser)
    parser.set_defaults(func=run)


def run(args: argparse.Namespace) -> int:
    """Serve the page until a signal arrives, or show another server's page."""
    if args.server is not None:
        parts = urlsplit(args.server)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise UsageError(f"--server {args.server!r} is not a server address; expected http://HOST:PORT.")
        _show(args.server, args.open)
        return 0
    if args.no_page:
        raise UsageError("ui can't be combined with --no-page; to serve only the API, run videollama2 serve --no-page.")
    settings, address = settings_of(args), address_of(args)
    arguments.trim_torch(args)
    from ..serve.app import create_app
    from ..serve.running import GracefulServer

    terminal.log_to_terminal(args.verbose)
    with terminal.progress(False) as on_stage:
        engine = arguments.load_engine(args, on_stage, protocol=args.protocol, fp16_weights=args.fp16_weights)
        app = create_app(engine, settings)
        app.state.server.decoding.start()
    server = GracefulServer(app, settings, address)
    host = f"[{args.host}]" if ":" in args.host else args.host
    url = f"{'https' if args.tls_cert else 'http'}://{host}:{args.port}/"
    threading.Thread(target=_show_once_started, args=(server, url, args.open), daemon=True).start()
    try:
        server.run()
    except OSError as error:
        raise StorageError(f"could not start the server: {error.strerror or error}.") from error
    return 0


def _show_once_started(server: Any, url: str, in_browser: bool) -> None:
    while not server.started and not server.should_exit:
        time.sleep(0.05)
    if server.started:
        _show(url, in_browser)


def _show(url: str, in_browser: bool) -> None:
    terminal.say(f"the page is at {url}")
    if in_browser and not webbrowser.open(url):
        terminal.say("could not open a browser; open the address manually", style="yellow")
