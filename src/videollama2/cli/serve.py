"""`videollama2 serve`: the HTTP server."""

import argparse
import logging
import os
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ..errors import MissingExtra, StorageError, UsageError
from . import serve_limits, terminal

_EPILOG = """examples:
  videollama2 serve                                        nano at http://127.0.0.1:8000
  videollama2 serve --model 2.1-7b-av --host 0.0.0.0 --port 8080 --tls-cert cert.pem --tls-key key.pem
  VIDEOLLAMA2_API_KEYS=first-key,second-key videollama2 serve --host 0.0.0.0
  videollama2 serve --allow-url-host media.example.org     media by URL, from there only; off by default

The API is OpenAI's: /v1/chat/completions, /v1/models, /v1/files; also /health, /ready, /metrics, /openapi.json;
at / a page for browsers.
Ctrl-C or SIGTERM: answers on their way are completed; a second one ends at once.
"""
_LOCAL = ("localhost", "127.0.0.1", "[::1]")
KEYS = "VIDEOLLAMA2_API_KEYS"
_NEEDED = ("fastapi", "uvicorn", "python_multipart", "prometheus_client")


def register(commands: Any) -> None:
    """Add the command and its flags."""
    parser = commands.add_parser(
        "serve", help="an OpenAI-compatible HTTP server", description="Answer over HTTP.",
        epilog=_EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    add_server_flags(parser)
    terminal.add_model_flags(parser)
    parser.set_defaults(func=run)


def add_server_flags(parser: argparse.ArgumentParser) -> None:
    """Flags that say where and how is served."""
    group = parser.add_argument_group("server")
    add = group.add_argument
    add("--host", default="127.0.0.1", metavar="H", help="address to listen at; default: 127.0.0.1, this machine only")
    add("--port", type=int, default=8000, metavar="P", help="default: 8000")
    add("--tls-cert", type=Path, metavar="FILE", help="serve over TLS with this certificate (PEM)")
    add("--tls-key", type=Path, metavar="FILE", help="and this key")
    add(
        "--api-keys",
        type=Path,
        metavar="FILE",
        help=f"keys, one a line, of which a request must bring one; also {KEYS}",
    )
    add("--allow-host", action="append", default=[], metavar="NAME", help="a name that the server may be called by; "
        "default: any, or on this machine only its own names")  # fmt: skip
    add("--cors", action="append", default=[], metavar="ORIGIN", help="pages of this origin may call the server")
    add("--trust-proxy", metavar="IPS", help="take the client's address from X-Forwarded-For of these")
    add("--queue", type=int, default=64, metavar="N", help="questions that may wait; default: 64")
    add("--together", type=int, default=8, metavar="N", help="answers that are computed together; default: 8")
    add("--timeout", type=float, default=300.0, metavar="S", help="seconds for a question; default: 300")
    add("--max-tokens", type=int, default=2048, metavar="N", help="of an answer at most; default: 2048")
    add("--cache-mb", type=int, default=512, metavar="MIB", help="encoded media kept in memory; default: 512")
    add("--cache-folder", type=Path, metavar="FOLDER", help="and in files")
    add("--files-folder", type=Path, metavar="FOLDER", help="where uploads are kept; default: until the server ends")
    add("--file-hours", type=float, default=24.0, metavar="H", help="until an upload expires; default: 24")
    add("--protocol", metavar="P", help="how media are prepared: released, full or paper; default: the model's own")
    add(
        "--fp16-weights",
        "--pack",
        action="store_true",
        help="on a CPU, store 16-bit weights as float16: slower to start, faster to answer",
    )  # --pack: the former name, for one release
    add("--no-page", action="store_true", help="the API alone, without the page at /")
    add("--log-content", action="store_true", help="write questions and answers into the log")
    serve_limits.add_flags(parser)


def run(args: argparse.Namespace) -> int:
    """Serve until a signal comes."""
    settings, address = settings_of(args), address_of(args)
    from ..serve.logs import log_json
    from ..serve.running import serve

    log_json(logging.INFO)
    engine = terminal.load_engine(args, lambda stage: None, protocol=args.protocol, fp16_weights=args.fp16_weights)
    scheme = "https" if args.tls_cert else "http"
    terminal.say(f"{engine.name} at {scheme}://{args.host}:{args.port}")
    try:
        serve(engine, settings, address)
    except OSError as error:
        raise StorageError(f"the server can't start: {error.strerror or error}") from error
    return 0


def settings_of(args: argparse.Namespace) -> Any:
    """The settings that the flags ask for.

    Raises:
        MissingExtra: the server's packages are not installed. UsageError: an impossible value.
    """
    from ..serve.settings import ServeSettings

    if missing := [name for name in _NEEDED if find_spec(name) is None]:
        raise MissingExtra(f"serving needs {', '.join(missing)}: pip install 'videollama2[serve]'")
    local = args.host in ("127.0.0.1", "localhost", "::1")
    return ServeSettings(
        safety=serve_limits.safety_of(args),
        api_keys=_keys(args.api_keys),
        hosts=tuple(name.lower() for name in (*args.allow_host, *(_LOCAL if local else ()))),
        cors_origins=tuple(args.cors),
        queue_size=args.queue,
        max_rows=args.together,
        request_seconds=args.timeout,
        max_tokens=args.max_tokens,
        default_tokens=min(512, args.max_tokens),
        cache_bytes=args.cache_mb << 20,
        cache_folder=args.cache_folder,
        files_folder=args.files_folder,
        file_seconds=args.file_hours * 3600,
        log_content=args.log_content,
        page=not args.no_page,
    )


def address_of(args: argparse.Namespace) -> Any:
    """Where the flags say to listen."""
    from ..serve.running import Address

    for path in filter(None, (args.tls_cert, args.tls_key)):
        if not path.is_file():
            raise UsageError(f"{path} is not there; expected a PEM file")
    return Address(
        host=args.host, port=args.port, certificate=args.tls_cert, key=args.tls_key, trusted_proxies=args.trust_proxy
    )


def _keys(path: Path | None) -> tuple[str, ...]:
    """Keys of a file and of the environment; never of the command line, which every user of a machine can read."""
    keys = [key.strip() for key in os.environ.get(KEYS, "").split(",")]
    if path is not None:
        try:
            keys += [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"{path} can't be read as a list of keys; expected one a line") from error
    return tuple(dict.fromkeys(key for key in keys if key))
