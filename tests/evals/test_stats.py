"""Every statistic against what is known in closed form, or can be counted by hand."""

import math

import numpy as np
import pytest

from videollama2.evals.stats import Draws, cohen_kappa, interval, mcnemar, spearman, two_sided, wilson


def binomial_quantile(n: int, p: float, share: float) -> int:
    """The least k with P(X ≤ k) ≥ share."""
    total = 0.0
    for k in range(n + 1):
        total += math.comb(n, k) * p**k * (1 - p) ** (n - k)
        if total >= share:
            return k
    return n


@pytest.mark.parametrize(("n", "right"), [(20, 7), (100, 65), (400, 20)])
def test_the_bootstrap_of_independent_items_is_binomial(n: int, right: int) -> None:
    values = np.array([1.0] * right + [0.0] * (n - right))
    found = interval(Draws(range(n), samples=20_000).ratios(values, np.ones(n)))
    exact = [binomial_quantile(n, right / n, q) / n for q in (0.025, 0.975)]
    assert found == pytest.approx(exact, abs=1.01 / n)


def test_draws_are_the_same_every_time_and_in_every_form() -> None:
    groups = ["a", "a", "b", "c", "c", "c"]
    draws = Draws(groups, samples=50)
    values = np.arange(6.0)
    again = Draws(groups, samples=50)
    ratios = draws.ratios(values, np.ones(6))
    assert np.array_equal(ratios, again.ratios(values, np.ones(6)))
    assert not np.array_equal(ratios, Draws(groups, samples=50, seed=1).ratios(values, np.ones(6)))
    for drawn, ratio in zip(draws.items(50), ratios, strict=True):
        assert np.mean(values[drawn]) == pytest.approx(ratio)
        assert drawn.count(0) == drawn.count(1) and drawn.count(3) == drawn.count(4) == drawn.count(5)
        assert drawn.count(0) + drawn.count(2) + drawn.count(3) == 3  # as many groups as there are
    assert len(list(draws.items(7))) == 7


def test_blocks_do_not_change_what_is_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    values, draws = np.arange(9.0), Draws(range(9), samples=40)
    whole = draws.ratios(values, np.ones(9))
    monkeypatch.setattr("videollama2.evals.stats._HELD", 27)
    assert np.array_equal(whole, draws.ratios(values, np.ones(9)))
    assert [sum(items) / len(items) for items in draws.items(5)] == pytest.approx(whole[:5])


def test_several_ratios_at_once_share_their_draws() -> None:
    one = np.array([1.0, 0, 1, 1, 0])
    both = Draws(range(5)).ratios(np.stack([one, 1 - one], axis=1), np.ones((5, 2)))
    assert both.shape == (2000, 2)
    assert both.sum(axis=1) == pytest.approx(1)


def test_questions_about_one_clip_are_drawn_together() -> None:
    """Ten questions a clip that are all right or all wrong together say no more than one."""
    values, groups = np.repeat([1.0, 0.0] * 10, 10), np.repeat(np.arange(20), 10).tolist()
    low, high = interval(Draws(groups).ratios(values, np.ones(200))) or (0, 0)
    alone = interval(Draws(range(20)).ratios(values[::10], np.ones(20)))
    assert (low, high) == alone
    narrow = interval(Draws(range(200)).ratios(values, np.ones(200))) or (0, 0)
    assert high - low > 2.5 * (narrow[1] - narrow[0])


def test_a_figure_without_a_denominator_has_no_interval() -> None:
    draws = Draws(range(4), samples=10).ratios(np.zeros(4), np.zeros(4))
    assert np.isnan(draws).all() and interval(draws) is None and two_sided(draws) is None
    assert interval(Draws([]).ratios(np.zeros(0), np.zeros(0))) is None


def test_wilson() -> None:
    assert wilson(0, 10) == pytest.approx((0.0, 0.2775328))
    assert wilson(10, 10) == pytest.approx((0.7224672, 1.0))
    assert wilson(81, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)  # Newcombe 1998, table I
    assert wilson(15, 148) == pytest.approx((0.0624, 0.1605), abs=5e-5)
    assert wilson(0, 0) == (0.0, 1.0)


def test_mcnemar_is_exact() -> None:
    assert mcnemar(0, 0) == 1.0
    assert mcnemar(0, 5) == 2 / 2**5
    assert mcnemar(5, 0) == 2 / 2**5
    assert mcnemar(4, 4) == 1.0
    assert mcnemar(1, 9) == 2 * (1 + 10) / 2**10
    assert mcnemar(2, 12) == pytest.approx(2 * (1 + 14 + 91) / 2**14)
    assert 0 <= mcnemar(1000, 3000) < 1e-200


def test_kappa() -> None:
    first = ["yes"] * 25 + ["no"] * 25
    second = ["yes"] * 20 + ["no"] * 5 + ["yes"] * 10 + ["no"] * 15
    assert cohen_kappa(first, second) == pytest.approx(0.4)
    assert cohen_kappa([1, 2, 3], [1, 2, 3]) == 1.0
    assert cohen_kappa([0, 1], [1, 0]) == -1.0
    assert cohen_kappa([1, 1], [1, 1]) is None and cohen_kappa([], []) is None


def test_spearman() -> None:
    assert spearman([1, 2, 3], [10, 20, 90]) == pytest.approx(1)
    assert spearman([1, 2, 3], [3, 2, 1]) == pytest.approx(-1)
    assert spearman([1, 2, 2, 3], [1, 3, 2, 4]) == pytest.approx(4.5 / math.sqrt(4.5 * 5))
    assert spearman([1, 1], [1, 2]) is None and spearman([], []) is None
    with pytest.raises(ValueError, match="expected equally many values, got 1 and 2"):
        spearman([1], [1, 2])


def test_two_sided() -> None:
    assert two_sided(np.linspace(1, 2, 999)) == 2 / 1000
    assert two_sided(np.linspace(-1, 1, 999)) == 1.0
