"""Flags of `videollama2 serve` that say what a stranger's media may take (serve/safety.py has the ceilings)."""

import argparse
from dataclasses import fields
from typing import Any, Final

_MIB = 1 << 20
# flag: (field of Safety, its unit in the flag's unit, type, metavar, help)
_FLAGS: Final[dict[str, tuple[str, int, type, str, str]]] = {
    "--max-media": ("max_media", 1, int, "N", "media of one request"),
    "--max-data-mb": ("max_data_bytes", _MIB, int, "MIB", "of a medium inside a request (data URLs)"),
    "--max-request-mb": ("max_request_media_bytes", _MIB, int, "MIB", "of all media inside a request"),
    "--max-frames-asked": ("max_num_frames", 1, int, "N", "frames that a request may ask for of one medium"),
    "--max-media-mb": ("max_file_bytes", _MIB, int, "MIB", "of one medium"),
    "--max-pixels": ("max_pixels", 1, int, "N", "of one picture or frame"),
    "--max-frames": ("max_frames", 1, int, "N", "frames that a video may have"),
    "--max-pictures": ("max_animation_frames", 1, int, "N", "pictures that an animation may have"),
    "--max-sound-seconds": ("max_sound_seconds", 1, float, "S", "sound that is decoded of one medium"),
    "--max-channels": ("max_channels", 1, int, "N", "channels that a sound may have"),
    "--max-decoded-mb": ("max_held_mb", 1, int, "MIB", "of the decoded frames of one medium"),
    "--decoders": ("decoders", 1, int, "N", "processes that open media"),
    "--decode-seconds": ("decode_seconds", 1, float, "S", "for opening one medium"),
    "--decode-cpu-seconds": ("decode_cpu_seconds", 1, float, "S", "of processor time for it"),
    "--decode-memory-mb": ("decode_memory_mb", 1, int, "MIB", "of memory for it"),
    "--url-mb": ("url_max_bytes", _MIB, int, "MIB", "of what is fetched from one URL"),
    "--url-seconds": ("url_seconds", 1, float, "S", "for fetching it"),
    "--url-redirects": (
        "url_redirects",
        1,
        int,
        "N",
        "redirects that are followed, each checked like the first address",
    ),
    "--url-at-once": ("url_at_once", 1, int, "N", "fetches at the same time"),
}


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags, each with its default in the help."""
    from ..serve.safety import Safety

    group = parser.add_argument_group("limits on media; a request can only lower them")
    defaults = Safety()
    for flag, (name, unit, kind, metavar, words) in _FLAGS.items():
        default = kind(getattr(defaults, name) / unit)
        shown = f"{default:,}" if kind is int else f"{default:g}"
        group.add_argument(
            flag, dest=f"safety_{name}", type=kind, default=None, metavar=metavar, help=f"{words}; default: {shown}"
        )
    group.add_argument(
        "--allow-url-host", action="append", default=[], metavar="NAME",
        help="media may be fetched from this host, or with a dot before it from all below it; default: no URLs",
    )  # fmt: skip
    group.add_argument(
        "--allow-url-http", action="store_true", help="media may be fetched by http too; default: https only"
    )
    group.add_argument(
        "--allow-url-port",
        action="append",
        type=int,
        default=[],
        metavar="P",
        help="and from this port; default: 80, 443",
    )


def safety_of(args: argparse.Namespace) -> Any:
    """The ceilings that the flags ask for.

    Raises:
        UsageError: an impossible one.
    """
    from ..serve.safety import Safety

    units = {name: unit for name, unit, *_ in _FLAGS.values()}
    given = {f.name: getattr(args, f"safety_{f.name}", None) for f in fields(Safety)}
    told: dict[str, Any] = {name: value * units[name] for name, value in given.items() if value is not None}
    hosts = tuple(name.lower() for name in args.allow_url_host)
    schemes = ("https", "http") if args.allow_url_http else Safety().url_schemes
    ports = tuple(sorted({*Safety().url_ports, *args.allow_url_port}))
    return Safety(url_hosts=hosts, url_schemes=schemes, url_ports=ports, **told)
