"""The order of a run: nothing is left out, shares are exact, and any step can be asked for at any time."""

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from videollama2.data.mixture import MixtureOrder, spread
from videollama2.errors import UsageError

quick = settings(max_examples=60, deadline=None)


def flat(order: MixtureOrder, steps: int) -> list[int]:
    return [index for n in range(steps) for index in order.step(n)]


@quick
@given(records=st.integers(1, 50), batch=st.integers(1, 17), seed=st.integers(0, 2**40))
def test_unweighted_every_record_is_seen_once_per_epoch(records: int, batch: int, seed: int) -> None:
    half = records // 2
    order = MixtureOrder({"video": range(half), "text": range(half, records)}, batch=batch, seed=seed)
    seen = flat(order, 3 * order.steps_per_epoch)
    assert all(len(order.step(n)) == batch for n in range(3))
    for epoch in range(3):
        assert sorted(seen[epoch * records : (epoch + 1) * records]) == list(range(records))
    assert (order.steps_per_epoch - 1) * batch < records <= order.steps_per_epoch * batch


@quick
@given(shares=st.lists(st.integers(1, 60), min_size=1, max_size=7))
def test_no_prefix_is_a_whole_sample_from_its_share(shares: list[int]) -> None:
    total, counts = sum(shares), Counter[int]()
    for position, k in enumerate(spread(shares), 1):
        counts[int(k)] += 1
        assert all(abs(counts[j] - share * position / total) < 1 for j, share in enumerate(shares))
    assert [counts[j] for j in range(len(shares))] == shares


def test_a_batch_of_128_at_2_1_1_holds_64_32_32() -> None:
    pools = {"av": range(100), "audio": range(100, 140), "video": range(140, 1000)}
    order = MixtureOrder(pools, batch=128, seed=3, weights={"av": 2.0, "audio": 1.0, "video": 1.0})
    for n in (0, 1, 77, 10**9):
        kinds = Counter("av" if i < 100 else "audio" if i < 140 else "video" for i in order.step(n))
        assert kinds == {"av": 64, "audio": 32, "video": 32}
    assert order.steps_per_epoch == 2  # 64 + 64 ≥ 100
    assert "av: 50.0% of each batch; 100 records, seen 1.28 times" in order.describe()


@quick
@given(
    sizes=st.lists(st.integers(1, 30), min_size=1, max_size=4),
    weights=st.lists(st.sampled_from([0.5, 1, 2.0, 3, 703.0, 0.1]), min_size=4, max_size=4),
    batch=st.integers(1, 9),
    order=st.permutations(range(12)),
)
def test_a_step_is_the_same_in_any_order_of_calls(
    sizes: list[int], weights: list[float], batch: int, order: list[int]
) -> None:
    ends = [sum(sizes[: k + 1]) for k in range(len(sizes))]
    pools = {f"p{k}": range(end - size, end) for k, (size, end) in enumerate(zip(sizes, ends, strict=True))}
    shares = {name: weights[k] for k, name in enumerate(pools)}
    forwards = [MixtureOrder(pools, batch=batch, seed=5, weights=shares).step(n) for n in range(12)]
    again = MixtureOrder(pools, batch=batch, seed=5, weights=shares)
    assert {n: again.step(n) for n in order} == dict(enumerate(forwards))
    # each pool's samples in a row are whole epochs of it, one after the other
    for name, pool in pools.items():
        mine = [i for i in flat(again, 12) if i in pool]
        for start in range(0, len(mine) - len(pool) + 1, len(pool)):
            assert sorted(mine[start : start + len(pool)]) == list(pool), name


@quick
@given(batch=st.integers(1, 6), other=st.integers(1, 6))
def test_the_order_does_not_depend_on_how_it_is_cut(batch: int, other: int) -> None:
    pools, weights = {"a": range(5), "b": range(5, 22)}, {"a": 1, "b": 3}
    one, two = (MixtureOrder(pools, batch=b, seed=1, weights=weights) for b in (batch, other))
    assert flat(one, 30)[:30] == flat(two, 30)[:30]


def test_seeds_and_epochs_differ() -> None:
    pools = {"a": range(40)}
    first, second = (MixtureOrder(pools, batch=40, seed=seed) for seed in (0, 1))
    assert first.step(0) != second.step(0) and first.step(0) != first.step(1)


def test_the_order_is_this_one() -> None:
    """Written down, so that a run begun with one version goes on with the next."""
    assert MixtureOrder({"a": range(8)}, batch=8, seed=0).step(0) == [0, 3, 7, 5, 1, 2, 6, 4]
    mixed = MixtureOrder({"a": [0, 1], "b": [2, 3, 4]}, batch=6, seed=7, weights={"a": 1, "b": 2})
    assert mixed.step(4) == [4, 0, 2, 2, 1, 3]


def test_fine_weights_are_rounded_not_rejected() -> None:
    order = MixtureOrder({"a": range(9), "b": range(9, 18)}, batch=10, seed=0, weights={"a": 1 / 3, "b": 2 / 3})
    assert sum(i >= 9 for i in flat(order, 30)) == 200


@pytest.mark.parametrize(
    ("pools", "weights", "words"),
    [
        ({}, None, "no records"),
        ({"a": []}, None, "no records"),
        ({"a": [1], "b": []}, {"a": 1, "b": 1}, "of kind b"),
        ({"a": [1]}, {"a": 1, "b": 1}, "0 to drop it"),
        ({"a": [1], "b": [2]}, {"a": 1}, "0 to drop it"),
        ({"a": [1]}, {"a": 0}, "above 0"),
        ({"a": [1]}, {"a": -1}, "0 or more"),
        ({"a": [1]}, {"a": float("nan")}, "0 or more"),
    ],
)
def test_invalid_mixtures_are_rejected(pools: dict, weights: dict | None, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        MixtureOrder(pools, batch=2, seed=0, weights=weights)


def test_a_pool_of_weight_zero_is_dropped_and_may_be_empty() -> None:
    order = MixtureOrder({"a": [1], "b": []}, batch=2, seed=0, weights={"a": 1, "b": 0})
    assert flat(order, 3) == [1] * 6
    with pytest.raises(UsageError, match="got batch 0"):
        MixtureOrder({"a": [1]}, batch=0, seed=0)
