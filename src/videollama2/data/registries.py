"""Things that modules define and commands name: benchmarks, training sets."""

from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any, TypeVar

from ..errors import UsageError, did_you_mean

T = TypeVar("T")


def registered(package: str, modules: Sequence[str], attribute: str) -> dict[str, Any]:
    """By name, all of the tuples with this name in the modules of a package, in their order."""
    held = (getattr(import_module(f"{package}.{module}"), attribute) for module in modules)
    return {each.name: each for several in held for each in several}


def by_name(known: Mapping[str, T], name: str, what: str, listing: str) -> T:
    """The one of this name.

    Raises:
        UsageError: unknown name; the message names the nearest, and the command that lists all.
    """
    if name in known:
        return known[name]
    hint = did_you_mean(name.lower().replace("_", "-"), known) or "."
    raise UsageError(f"unknown {what} {name!r}{hint} `{listing}` lists all {len(known)}.")
