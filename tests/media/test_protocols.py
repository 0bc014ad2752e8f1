"""Protocols are named data."""

from dataclasses import FrozenInstanceError, replace

import pytest

from videollama2.errors import UsageError
from videollama2.protocols import FULL, PAPER, PROTOCOLS, RELEASED, protocol


def test_names() -> None:
    assert protocol("released") is RELEASED and protocol("full") is FULL and protocol("paper") is PAPER
    assert all(name == p.name and p.summary for name, p in PROTOCOLS.items())


def test_the_object_is_its_own_name() -> None:
    mine = replace(FULL, name="mine", aspect="pad")
    assert protocol(mine) is mine


@pytest.mark.parametrize(("typed", "meant"), [("relaesed", "released"), ("ful", "full")])
def test_the_nearest_is_named(typed: str, meant: str) -> None:
    with pytest.raises(UsageError, match=rf"did you mean '{meant}'\?.*Expected one of released, full, paper"):
        protocol(typed)


def test_protocols_do_not_change() -> None:
    with pytest.raises(FrozenInstanceError):
        RELEASED.max_frames = 64  # type: ignore[misc]


def test_keys_of_caches_on_disk_stay_as_they_were_written() -> None:
    key = FULL.key()
    assert (key["name"], key["file_sound"], key["sound_in_range"], key["sound_seconds"]) == (
        "full",
        "whole",
        True,
        60.0,
    )
    assert not [name for name in key if "audio" in name] and FULL.key() != RELEASED.key()
