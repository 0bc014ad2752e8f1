"""`videollama2 serve`: the HTTP server."""

import argparse
import json
import logging
import os
from dataclasses import fields
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

from ..errors import MissingExtra, StorageError, UsageError
from . import arguments, terminal

_EPILOG = """examples:
  videollama2 serve                                        nano at http://127.0.0.1:8000
  videollama2 serve --model 2.1-7b-av --host 0.0.0.0 --port 8080 --tls-cert cert.pem --tls-key key.pem
  VIDEOLLAMA2_API_KEYS=first-key,second-key videollama2 serve --host 0.0.0.0
  videollama2 serve --allow-url-host media.example.org     allow media by URL, from this host only
  videollama2 serve --engine vllm --model FOLDER           the same server, with vLLM behind it (docs/scale.md)

Speaks OpenAI's API (/v1/chat/completions, /v1/models, /v1/files); also /health, /ready, /metrics, /openapi.json, and a
web page at /. Ctrl-C or SIGTERM stops after finishing running requests; a second one stops immediately.
"""
_LOCAL = ("localhost", "127.0.0.1", "[::1]")
KEYS = "VIDEOLLAMA2_API_KEYS"
_NEEDED = ("fastapi", "uvicorn", "python_multipart", "prometheus_client")
_MIB = 1 << 20
# flag: (field of RequestLimits, bytes or items per unit of the flag, type, metavar, help, former name)
_LIMITS: Final[dict[str, tuple[str, int, type, str, str, str | None]]] = {
    "--max-media": ("max_media", 1, int, "N", "maximum media items per request", None),
    "--max-media-mb": ("max_file_bytes", _MIB, int, "MIB", "maximum size of a media item", None),
    "--max-data-mb": ("max_data_bytes", _MIB, int, "MIB", "maximum size of a media item sent inside a request", None),
    "--max-request-mb": (
        "max_request_media_bytes",
        _MIB,
        int,
        "MIB",
        "maximum size of all media sent inside a request",
        None,
    ),
    "--max-pixels": ("max_pixels", 1, int, "N", "maximum pixels of an image or frame", None),
    "--max-frames": ("max_frames", 1, int, "N", "maximum frames of a video", None),
    "--max-requested-frames": ("max_num_frames", 1, int, "N", "maximum num_frames of a request", "--max-frames-asked"),
    "--max-animation-frames": (
        "max_animation_frames",
        1,
        int,
        "N",
        "maximum frames of an animated image",
        "--max-pictures",
    ),
    "--max-audio-seconds": (
        "max_sound_seconds",
        1,
        float,
        "S",
        "maximum audio decoded per media item, seconds",
        "--max-sound-seconds",
    ),
    "--max-channels": ("max_channels", 1, int, "N", "maximum audio channels", None),
    "--max-decoded-mb": ("max_held_mb", 1, int, "MIB", "maximum memory for a media item's decoded frames", None),
    "--media-workers": ("media_workers", 1, int, "N", "number of processes that decode media", "--decoders"),
    "--decode-seconds": ("decode_seconds", 1, float, "S", "time limit for decoding a media item, seconds", None),
    "--decode-cpu-seconds": ("decode_cpu_seconds", 1, float, "S", "CPU time limit per media item, seconds", None),
    "--decode-memory-mb": ("decode_memory_mb", 1, int, "MIB", "memory limit per media item", None),
    "--url-mb": ("url_max_bytes", _MIB, int, "MIB", "maximum size of a download", None),
    "--url-seconds": ("url_seconds", 1, float, "S", "time limit of a download, seconds", None),
    "--url-redirects": (
        "url_redirects",
        1,
        int,
        "N",
        "maximum redirects per download, each checked like the URL",
        None,
    ),
    "--url-concurrency": ("url_concurrency", 1, int, "N", "maximum downloads at once", "--url-at-once"),
}
_RARE_LIMITS = (
    "--max-data-mb", "--max-request-mb", "--max-requested-frames", "--max-animation-frames", "--max-channels",
    "--max-decoded-mb", "--decode-cpu-seconds", "--url-redirects", "--url-concurrency",
)  # fmt: skip


def register(commands: Any) -> None:
    """Add the command and its flags."""
    parser = commands.add_parser(
        "serve", help="serve an OpenAI-compatible HTTP API", description="Serve a model over HTTP.", epilog=_EPILOG,
        usage="videollama2 serve [OPTION ...]",
    )  # fmt: skip
    arguments.add_model_flags(parser, engines=(*arguments.ENGINES, "vllm"))
    add_server_flags(parser)
    parser.set_defaults(func=run)


def _json_object(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise argparse.ArgumentTypeError(f"{text!r:.60} is not a JSON object")
    return value


def add_server_flags(parser: arguments.Parser) -> None:
    """Flags for where and how to serve, and for the limits on requests."""
    add = parser.add_argument_group("server").add_argument
    add("--host", default="127.0.0.1", metavar="H", help="address to listen on; default: 127.0.0.1, this computer only")
    add("--port", type=int, default=8000, metavar="P", help="port to listen on; default: 8000")
    add("--api-keys", type=Path, metavar="FILE", help="API keys, one per line; every request must present one "
        f"(also read from ${KEYS})")  # fmt: skip
    add("--tls-cert", type=Path, metavar="FILE", help="serve over TLS with this certificate (PEM)")
    add("--tls-key", type=Path, metavar="FILE", help="private key of the certificate (PEM)")
    add("--allow-url-host", action="append", default=[], metavar="NAME",
        help="allow media by URL from this host, or from all hosts under .NAME; default: no URLs")  # fmt: skip
    group = parser.add_argument_group("load")
    add = group.add_argument
    batch = add(
        "--max-batch-size", type=int, default=16, metavar="N", help="maximum answers per decoding batch; default: 16"
    )
    arguments.former_name("--together", batch, group)
    add("--queue", type=int, default=64, metavar="N", help="maximum requests waiting in the queue; default: 64")
    add("--timeout", type=float, default=300.0, metavar="S", help="time limit per request, seconds; default: 300")
    add("--max-tokens", type=int, default=2048, metavar="N", help="maximum answer length in tokens; default: 2048")
    add("--cache-mb", type=int, default=512, metavar="MIB", help="maximum memory for cached media; default: 512")
    add("--cache-folder", type=Path, metavar="FOLDER", help="also cache encoded media on disk")
    add("--prompt-cache-mb", type=int, default=256, metavar="MIB",
        help="maximum device memory for cached beginnings of prompts; default: 256")  # fmt: skip
    fp16 = add("--fp16-weights", action="store_true", help="on a CPU, convert 16-bit weights to float16: slower start, "
        "faster answers")  # fmt: skip
    arguments.former_name("--pack", fp16, group)
    _add_limit_flags(parser)
    add = parser.add_advanced_group("advanced").add_argument
    add("--vllm-args", type=_json_object, default={}, metavar="JSON", help="for vllm: its engine arguments, such as "
        '\'{"tensor_parallel_size": 2}\'')  # fmt: skip
    add("--protocol", metavar="P", help="media preprocessing: released, full or paper; default: the model's own")
    add("--files-folder", type=Path, metavar="FOLDER", help="store uploads here; default: a temporary folder")
    add("--file-hours", type=float, default=24.0, metavar="H", help="hours until an upload expires; default: 24")
    add("--allow-host", action="append", default=[], metavar="NAME", help="accept this Host header; default: any, or "
        "on a local address only this computer's names")  # fmt: skip
    add("--cors", action="append", default=[], metavar="ORIGIN", help="allow pages from this origin to call the API")
    add("--trust-proxy", metavar="IPS", help="trust X-Forwarded-For from these proxies")
    add("--allow-url-http", action="store_true", help="allow http URLs for media; default: https only")
    add("--allow-url-port", action="append", type=int, default=[], metavar="P", help="also allow this port in URLs; "
        "default: 80, 443")  # fmt: skip
    add("--no-page", action="store_true", help="serve only the API, without the web page")
    add("--log-content", action="store_true", help="log questions and answers")


def _add_limit_flags(parser: arguments.Parser) -> None:
    from ..serve.settings import RequestLimits

    common, rare = parser.add_argument_group("limits on media"), parser.add_advanced_group("more limits on media")
    defaults = RequestLimits()
    for flag, (name, unit, kind, metavar, words, former) in _LIMITS.items():
        default = kind(getattr(defaults, name) / unit)
        shown = f"{default:,}" if kind is int else f"{default:g}"
        group = rare if flag in _RARE_LIMITS else common
        action = group.add_argument(
            flag, dest=f"limit_{name}", type=kind, metavar=metavar, help=f"{words}; default: {shown}"
        )
        if former is not None:
            arguments.former_name(former, action, group)


def run(args: argparse.Namespace) -> int:
    """Serve until a signal arrives."""
    settings, address = settings_of(args), address_of(args)
    if args.engine != "vllm":  # vLLM compiles, and splits models over processes
        arguments.trim_torch(args)
    from ..serve.app import create_app
    from ..serve.logs import log_json
    from ..serve.running import serve

    log_json(logging.INFO)
    if args.engine == "vllm":
        from ..serve.remote import ON_VLLM

        engine, scheduling = _on_vllm(args), ON_VLLM
    else:
        if args.vllm_args:
            raise UsageError("--vllm-args is for --engine vllm; add it, or drop --vllm-args.")
        from ..serve.app import HERE

        engine = arguments.load_engine(args, lambda stage: None, protocol=args.protocol, fp16_weights=args.fp16_weights)
        scheduling = HERE
    scheme = "https" if args.tls_cert else "http"
    terminal.say(f"{engine.name} at {scheme}://{args.host}:{args.port}")
    try:
        serve(engine, settings, address, create_app(engine, settings, scheduling))
    except OSError as error:
        raise StorageError(f"could not start the server: {error.strerror or error}.") from error
    return 0


def _on_vllm(args: argparse.Namespace) -> Any:
    """The engine that starts vLLM.

    Raises:
        UsageError: a flag that only torch has.
    """
    from ..backends.vllm.generator import require_vllm

    require_vllm()
    from ..backends.vllm.weightless import load_on_vllm
    from ..hub import HubOptions
    from ..weights.locate import locate

    torch_only = (("--fp16-weights", args.fp16_weights), ("--device", args.device != "auto"), ("--gguf", args.gguf))
    for flag, given in torch_only:
        if given:
            raise UsageError(f"{flag} has no effect on vLLM; drop it: vLLM runs on the device that it was built for.")
    folder, name = locate(args.model, args.base, HubOptions(revision=args.revision))
    given = {"dtype": args.dtype, "max_num_seqs": args.max_batch_size, **args.vllm_args}
    return load_on_vllm(folder, name, protocol=args.protocol, **given)


def settings_of(args: argparse.Namespace) -> Any:
    """The settings that the flags describe.

    Raises:
        MissingExtra: the server's packages are not installed. UsageError: an invalid value.
    """
    from ..serve.settings import ServeSettings

    if missing := [name for name in _NEEDED if find_spec(name) is None]:
        raise MissingExtra(f"serving requires {', '.join(missing)}: pip install 'videollama2[serve]'")
    local = args.host in ("127.0.0.1", "localhost", "::1")
    return ServeSettings(
        limits=_limits(args),
        api_keys=_keys(args.api_keys),
        hosts=tuple(name.lower() for name in (*args.allow_host, *(_LOCAL if local else ()))),
        cors_origins=tuple(args.cors),
        queue_size=args.queue,
        max_batch_size=args.max_batch_size,
        request_seconds=args.timeout,
        max_tokens=args.max_tokens,
        default_tokens=min(512, args.max_tokens),
        cache_bytes=args.cache_mb << 20,
        prompt_cache_bytes=args.prompt_cache_mb << 20,
        cache_folder=args.cache_folder,
        files_folder=args.files_folder,
        file_seconds=args.file_hours * 3600,
        log_content=args.log_content,
        page=not args.no_page,
    )


def _limits(args: argparse.Namespace) -> Any:
    from ..serve.settings import RequestLimits

    units = {name: unit for name, unit, *_ in _LIMITS.values()}
    values = {field.name: getattr(args, f"limit_{field.name}", None) for field in fields(RequestLimits)}
    given: dict[str, Any] = {name: value * units[name] for name, value in values.items() if value is not None}
    hosts = tuple(name.lower() for name in args.allow_url_host)
    schemes = ("https", "http") if args.allow_url_http else RequestLimits().url_schemes
    ports = tuple(sorted({*RequestLimits().url_ports, *args.allow_url_port}))
    return RequestLimits(url_hosts=hosts, url_schemes=schemes, url_ports=ports, **given)


def address_of(args: argparse.Namespace) -> Any:
    """The address that the flags describe.

    Raises:
        UsageError: a certificate or key is missing.
    """
    from ..serve.running import ServerAddress

    for path in filter(None, (args.tls_cert, args.tls_key)):
        if not path.is_file():
            raise UsageError(f"{path} not found; expected a PEM file.")
    return ServerAddress(
        host=args.host, port=args.port, certificate=args.tls_cert, key=args.tls_key, trusted_proxies=args.trust_proxy
    )


def _keys(path: Path | None) -> tuple[str, ...]:
    """Keys from a file and the environment; never from a flag, which every user of the computer can read."""
    keys = [key.strip() for key in os.environ.get(KEYS, "").split(",")]
    if path is not None:
        try:
            keys += [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"{path} can't be read; expected a text file with one API key per line.") from error
    return tuple(dict.fromkeys(key for key in keys if key))
