"""Connecting to a Ray cluster, or starting one on this machine."""

import contextlib
import logging
import os
import re
import socket
from collections.abc import Iterator
from typing import Any

from ...errors import MissingExtra, UsageError, VideoLlama2Error

AUTO, LOCAL = "auto", "local"
ADDRESS = re.compile(r"auto|local|(ray://)?(\[[0-9a-fA-F:]+\]|[A-Za-z0-9][\w.-]*):\d{1,5}")
_CONNECT_SECONDS = 10.0
_STORE_BYTES = 256 << 20  # of a local object store: rows and lines pass through it, media never do


def imported() -> Any:
    """The package ray, with ray.data.

    Raises:
        MissingExtra: it is not installed.
    """
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise MissingExtra(f"--ray requires Ray ({error}); run: pip install 'videollama2[ray]'") from error
    return ray


@contextlib.contextmanager
def connected(address: str | None) -> Iterator[Any]:
    """The package ray, connected to a cluster for the time of a `with` block.

    Args:
        address: HOST:PORT, ray://HOST:PORT, "auto" (the cluster of this machine) or "local" (a new one, on this
            machine alone). None: RAY_ADDRESS, else "local".

    Raises:
        MissingExtra: Ray is not installed.
        UsageError: not an address, or no cluster answers there.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # this process's; nodes log as they were started
    ray = imported()
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    address = address or os.environ.get("RAY_ADDRESS") or LOCAL
    if ADDRESS.fullmatch(address) is None:
        raise UsageError(f"--ray {address}: expected HOST:PORT, ray://HOST:PORT, auto or local.")
    already = ray.is_initialized()
    if not already:
        if address not in (AUTO, LOCAL):
            _check_reachable(address)
        own = {"object_store_memory": _STORE_BYTES, "include_dashboard": False} if address == LOCAL else {}
        try:
            ray.init(address=address, log_to_driver=False, logging_level="ERROR", configure_logging=True, **own)
        except Exception as error:  # Ray raises ConnectionError, RuntimeError, ValueError and TimeoutError alike
            raise UsageError(
                f"no Ray cluster answers at {address} ({_short(error)}); start one with `ray start --head`, or pass "
                "--ray local to use this machine."
            ) from error
    try:
        yield ray
    finally:
        if not already:
            ray.shutdown()


def lost(error: BaseException) -> VideoLlama2Error:
    """The error of a job whose cluster failed."""
    return VideoLlama2Error(
        f"Ray ended the job: {_short(error)}. The results so far are kept; run the same command again to resume."
    )


def _check_reachable(address: str) -> None:
    """Ray itself tries for a minute, and then prints a stack."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), _CONNECT_SECONDS).close()
    except (OSError, OverflowError) as error:
        reason = str(getattr(error, "strerror", None) or error).lower()
        raise UsageError(
            f"no Ray cluster answers at {address} ({reason}); start one with `ray start --head`, or pass --ray local "
            "to use this machine."
        ) from error


def _short(error: BaseException) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    return f"{type(error).__name__}: {lines[-1].strip():.300}"
