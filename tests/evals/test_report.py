"""What a report says of results that are made up, against figures counted by hand or known in closed form."""

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pytest

from videollama2.evals.items import Result
from videollama2.evals.judge.judgements import Judgement
from videollama2.evals.judge.questions import abouts
from videollama2.evals.report.measuring import RECOMPUTED, Measured
from videollama2.evals.report.rendering import markdown, markdown_table
from videollama2.evals.report.summary import guessing, paired, summary
from videollama2.evals.report.tables import Table, brief, category_rows
from videollama2.evals.report.wording import chance, interval, named, number, plain
from videollama2.evals.stats import Draws, mcnemar, wilson

from .results import Plain, column, manifest, result


def test_outcomes_are_four_and_never_mixed() -> None:
    found = summary(column("RRRWWUFF"), Plain(), manifest())["ablations"]["none"]
    assert found["outcomes"] == {"right": 3, "wrong": 2, "unparsable": 1, "failed": 2}
    assert found["items"] == found["media"] == 8
    assert found["errors"] == {"MediaNotFound": 2}
    assert found["unexpected"] == 0
    assert found["metrics"]["accuracy"]["value"] == 3 / 8  # all eight are in the denominator
    assert found["metrics"]["half"]["value"] == 0.5 * 6 / 8


def test_what_is_withheld_is_counted_and_not_measured() -> None:
    hidden = [replace(r, id=f"h{i}", truth=()) for i, r in enumerate(column("RRUF"))]
    found = summary([*column("RW"), *hidden], Plain(), manifest())["ablations"]["none"]
    assert found["withheld"] == {"items": 4, "read": 2, "unparsable": 1, "failed": 1}
    assert found["outcomes"] == {"right": 1, "wrong": 1, "unparsable": 0, "failed": 0}
    assert found["metrics"]["accuracy"]["value"] == 0.5
    only = summary(hidden, Plain(), manifest())
    assert only["ablations"]["none"]["metrics"] == {}
    assert "no item with a public answer" in markdown(only)
    told = "The answers of 4 items are withheld and not scored: 2 read, 1 unparsable, 1 failed."
    assert told in brief(only)
    both = brief(summary([*column("RW"), *hidden], Plain(), manifest()))
    assert told in both and "2 items about 2 media files." in both  # what the figure stands on


def test_the_interval_of_an_accuracy_is_the_bootstraps() -> None:
    found = summary(column("R" * 65 + "W" * 35), Plain(), manifest())["ablations"]["none"]["metrics"]["accuracy"]
    assert found["by"] == "bootstrap"
    # of a binomial with 100 draws and share 0.65, 2.5 % and 97.5 % lie at 55 or 56 and 74
    assert found["low"] == pytest.approx(0.555, abs=0.011) and found["high"] == pytest.approx(0.74, abs=0.011)


def test_where_all_are_right_wilsons_interval_counts_media_and_not_questions() -> None:
    same = [replace(r, media=f"{i // 5}.mp4") for i, r in enumerate(column("R" * 20))]
    found = summary(same, Plain(), manifest())["ablations"]["none"]["metrics"]["accuracy"]
    assert found == {"value": 1.0, "low": wilson(4, 4)[0], "high": 1.0, "by": "wilson"}


def test_of_one_medium_nothing_is_said() -> None:
    one = [replace(r, media="same.mp4") for r in column("RWRW")]
    figure = summary(one, Plain(), manifest())["ablations"]["none"]["metrics"]["accuracy"]
    assert figure == {"value": 0.5, "low": None, "high": None, "by": None}


def test_means_are_told_from_what_is_no_mean() -> None:
    mixed = [replace(r, truth=("AB"[i % 2],)) for i, r in enumerate(column("RWRWUFRW" * 4))]
    measured = Measured(Plain(), mixed, Draws(range(32)))
    assert set(measured.values) == {"accuracy", "half", "accuracy_of_a", "f1"}
    assert set(measured.singles) == {"accuracy", "half", "accuracy_of_a"}
    assert np.isnan(measured.singles["accuracy_of_a"][1::2]).all()  # no part of it
    drawn = measured.drawn
    assert len(drawn["f1"]) == RECOMPUTED and len(drawn["accuracy"]) == 2000
    for i, items in enumerate(measured.draws.items(20)):
        again = Plain().metrics([mixed[k] for k in items])
        for name, value in again.items():
            assert drawn[name][i] == pytest.approx(value)


def test_categories_have_their_own_figures() -> None:
    mixed = [replace(r, categories={"task": ["count", "order"][i % 2]}) for i, r in enumerate(column("RWRURFRW"))]
    mixed.append(result("without"))
    found = summary(mixed, Plain(), manifest())
    tables = found["ablations"]["none"]["categories"]
    assert list(tables) == ["task"] and list(tables["task"]) == ["count", "order"]
    count, order = tables["task"]["count"], tables["task"]["order"]
    assert count["items"] == 4 and count["main"]["value"] == 1.0 and count["main"]["by"] == "wilson"
    assert order["outcomes"] == {"right": 0, "wrong": 2, "unparsable": 1, "failed": 1}
    assert order["metrics"]["half"] == 0.5 * 3 / 4
    assert category_rows(found, "task")[1] == ["order", "4", "0.0", "0.0 to 49.0", "2", "1", "1"]


def test_what_joins_two_items_makes_no_table() -> None:
    pairs = [replace(r, categories={"part": "consistency", "pair": f"v {i // 2}", "pair_place": str(i % 2 + 1)})
             for i, r in enumerate(column("RWRW"))]  # fmt: skip
    assert list(summary(pairs, Plain(), manifest())["ablations"]["none"]["categories"]) == ["part"]


def test_a_category_of_a_figure_that_is_no_mean() -> None:
    class F1(Plain):
        metric = "f1"

    mixed = [
        replace(r, truth=("AB"[i % 2],), categories={"half": ["one", "two"][i // 16]})
        for i, r in enumerate(column("RWRWUFRW" * 4))
    ]
    found = summary(mixed, F1(), manifest())["ablations"]["none"]
    one = found["categories"]["half"]["one"]
    assert one["main"]["value"] == pytest.approx(Plain().metrics(mixed[:16])["f1"])
    assert one["main"]["low"] < one["main"]["value"] < one["main"]["high"]


def test_columns_are_compared_item_by_item() -> None:
    full, deaf = column("RRRRRRRWWW"), column("WWWWWRRRWW", "audio")
    (pair,) = summary([*deaf, *full], Plain(), manifest())["paired"]
    assert pair["ablation"] == "audio" and pair["items"] == 10 and pair["unshared"] == 0
    assert pair["right"] == {"both": 2, "first_only": 5, "second_only": 1, "neither": 2, "p": mcnemar(5, 1)}
    assert mcnemar(5, 1) == 2 * 7 / 64
    accuracy = pair["metrics"]["accuracy"]
    assert (accuracy["first"], accuracy["second"]) == (0.7, 0.3)
    assert accuracy["difference"] == pytest.approx(-0.4)
    assert accuracy["low"] < -0.4 < accuracy["high"] and 0 < accuracy["p"] < 0.2


def test_a_pair_is_surer_than_its_halves() -> None:
    """Of the same items with 2 more right, the interval of the difference is that of 2 in 40, not of two runs."""
    full, better = column("RW" * 20), column("RW" * 18 + "RRRR", "video")
    (pair,) = summary([*full, *better], Plain(), manifest())["paired"]
    difference = pair["metrics"]["accuracy"]
    assert difference["difference"] == pytest.approx(2 / 40)
    assert difference["low"] >= 0 and difference["high"] == pytest.approx(0.125, abs=0.026)


def test_two_media_that_differ_alike_are_no_certainty() -> None:
    pair = summary([*column("RR"), *column("WW", "audio")], Plain(), manifest())["paired"][0]
    accuracy = pair["metrics"]["accuracy"]
    assert (accuracy["difference"], accuracy["low"], accuracy["high"], accuracy["p"]) == (-1, None, None, None)
    assert pair["right"]["p"] == 0.5


def test_questions_about_one_missing_medium_count_once() -> None:
    gone = [replace(r, media=None, error="MediaNotFound: a.mp4 not found") for r in column("FFF")]
    found = summary([*gone, *[replace(r, id="r") for r in column("R")]], Plain(), manifest())["ablations"]["none"]
    assert found["media"] == 2 and found["items"] == 4


def test_what_only_one_column_has_is_told() -> None:
    pair = paired(Plain(), column("RRWW"), column("RR"))
    assert (pair["items"], pair["unshared"]) == (2, 2)
    none = paired(Plain(), column("RR"), [])
    assert none["items"] == 0 and none["metrics"] == {} and none["right"] is None


def test_guessing() -> None:
    assert guessing(column("RW")) == 0.5
    assert guessing([result("a"), result("b", choices=("1", "2", "3", "4"))]) == 0.375
    assert guessing([result("a", choices=())]) is None and guessing([]) is None


def test_a_summary_is_plain_data_and_the_same_in_any_order() -> None:
    results = [*column("RWUF" * 5), *column("WWUF" * 5, "text-only")]
    found = summary(results, Plain(), manifest())
    text = json.dumps(found, allow_nan=False)
    assert text == json.dumps(summary(results, Plain(), manifest()), allow_nan=False)
    loaded = [Result.of_dict(json.loads(json.dumps(r.to_dict()))) for r in results]
    assert text == json.dumps(summary(loaded, Plain(), manifest()))
    assert list(found["ablations"]) == ["none", "text-only"]


def test_nothing_at_all() -> None:
    found = summary([], Plain(), {})
    assert found["ablations"] == {} and found["paired"] == [] and found["expected"] == []
    assert "There is no accuracy" in markdown(found)


class OneOfMany(Plain):
    """Its figures have names that say their range."""

    def metrics(self, results: Sequence[Result]) -> Mapping[str, float]:
        return {"accuracy": 0.25, "cider_of_10": 1.5, "odd": math.inf}


def test_markdown() -> None:
    mixed = [replace(r, categories={"a|b": "<i>*"}) for r in column("RWUF" * 5)]
    text = markdown(summary([*mixed, *column("WWUF" * 5, "audio")], Plain(), manifest()))
    assert text.startswith("# Plain: nano, strict setting\n")
    assert "**accuracy 25.0 %**, 95 % interval" in text and "Guessing has 50.0 %." in text
    assert "20 of 40 items" in text  # of the coverage
    assert "| all modalities | 20 | 20 | 5 | 5 | 5 | 5 | 0 |" in text
    assert "exact McNemar test: p = 0.062." in text
    assert "a\\|b" in text and "&lt;i&gt;\\*" in text
    hostile = [replace(r, error="<script>x</script> | `a`: b") for r in column("F")]
    text = markdown(summary(hostile, Plain(), manifest(model="[x](javascript:y)")))
    assert "<script>" not in text and not re.search(r"(?<!\\)]\(", text)
    ranged = markdown(summary(mixed, OneOfMany(), manifest()))
    assert "| cider (of 10) | 1.50 |" in ranged and "odd" not in ranged
    assert brief(summary(mixed, Plain(), manifest())).startswith("Plain: accuracy 25.0 %, 95 % interval ")


def test_remarks_say_what_a_reader_must_know() -> None:
    told = manifest()
    told["coverage"] |= {"available": 100, "missing": 3, "notes": ["2 duplicates"]}
    told["environment"].append({"device": "cuda"})
    results = [
        replace(r, losses=("no sound",) if i == 0 else (), error="unexpected KeyError: x" if i == 39 else r.error)
        for i, r in enumerate(column("R" * 38 + "FF"))
    ]
    text = markdown(summary(results, Plain(), told))
    for words in (
        "40 of 100 items were asked", "media of 3 items are missing", "2 items failed: KeyError 1, MediaNotFound 1",
        "1 failure came from the program", "For 1 item, something was not used", "different machines", "2 duplicates",
    ):  # fmt: skip
        assert words in text, words


def judgement(result: Result, about: str, verdict: str | None, judge: str = "judge") -> Judgement:
    return Judgement(
        id=result.id, ablation=result.ablation, judge=judge, kind="match", reference=None, probe=None,
        setting="strict", state="judged" if verdict else "failed", verdict=verdict,  # type: ignore[arg-type]
        score=None if verdict is None else 4.0 if verdict == "yes" else 1.0, reply="", error=None, tokens_in=1,
        tokens_out=1, served=None, about=about, asked="a", request=None,
    )  # fmt: skip


def test_judges_stand_beside_the_rules() -> None:
    results = [replace(r, scores={"token_f1": float(r.reply == "A")}) for r in column("RRRRWWWWWF")]
    known = abouts(results)
    words: Sequence[str | None] = ["yes"] * 5 + ["no"] * 4 + [None]
    said = [judgement(r, known[r.ablation, r.id], w) for r, w in zip(results, words, strict=True)]
    said += [judgement(r, known[r.ablation, r.id], "no", "other") for r in results[:9]]
    said.append(judgement(results[0], "of another reply", "no", "stale"))
    found = summary(results, Plain(), manifest(), said)["judges"]
    assert [(v["judge"], v["items"], v["judged"], v["failed"]) for v in found["verdicts"]] == [
        ("judge", 10, 9, 1), ("other", 9, 9, 0),
    ]  # fmt: skip
    metrics = found["verdicts"][0]["metrics"]
    assert metrics["match_accuracy"]["value"] == 0.5  # of all ten, the judge's failure is not left out
    assert metrics["match_accuracy"]["low"] < 0.5 < metrics["match_accuracy"]["high"]
    assert metrics["match_of_5"]["value"] == pytest.approx((5 * 4 + 4 * 1) / 10)
    assert found["verdicts"][1]["metrics"]["match_accuracy"]["by"] == "wilson"
    rules = next(m for m in found["measures"] if (m["judge"], m["measure"]) == ("judge", "rules"))
    assert rules["items"] == 9 and rules["kappa"] == pytest.approx((8 / 9 - 40 / 81) / (1 - 40 / 81))
    assert found["between"][0]["same"] == pytest.approx(4 / 9)
    assert found["stale"] == 1
    text = markdown(summary(results, Plain(), manifest(), said))
    assert "| judge | match | yes % | 50.0 |" in text and "| judge and other | match | 9 | 44.4 |" in text
    assert summary(results, Plain(), manifest())["judges"] == {}


def test_words() -> None:
    assert number("accuracy", 0.6543) == "65.4" and number("score_of_5", 3.456) == "3.46" and number("x", None) == "–"
    assert number("accuracy", -0.0001, signed=True) == "0.0" and number("accuracy", -0.02, signed=True) == "−2.0"
    assert interval("accuracy", {"low": 0.1, "high": 0.25}) == "10.0 to 25.0"
    assert interval("accuracy", {"low": None, "high": None}) == "–"
    assert (chance(0.0004), chance(0.05), chance(None)) == ("< 0.001", "0.050", "–")
    assert named("token_f1") == "token f1" and named("match_of_5") == "match (of 5)"
    assert plain("a\x00\x1b[31m\u202eb\nc") == "a\\u0000\\u001b[31m\\u202eb\nc"
    assert plain("x" * 12, 10) == "xxxxxxxxxx … (2 more characters)"
    assert markdown_table(Table(["a"], [])) == ""
