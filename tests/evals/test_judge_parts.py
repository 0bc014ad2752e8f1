"""What judges are asked, how their replies are read, how far they agree, and the command."""

import json
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from videollama2.cli import main
from videollama2.errors import DataError, UsageError
from videollama2.evals.items import Setting
from videollama2.evals.judge.agreement import figures, item_values, judge_summary
from videollama2.evals.judge.budget import Cap
from videollama2.evals.judge.client import Patience, judge_at
from videollama2.evals.judge.http import read_endpoint
from videollama2.evals.judge.judgements import Judgement, read_judgements
from videollama2.evals.judge.prompts import (
    JUDGED,
    KINDS,
    PADDING,
    fill,
    padded,
    prompt_of,
    prompts_hash,
    read_prompts,
    swapped,
)
from videollama2.evals.judge.questions import kinds_of, questions_of
from videollama2.evals.judge.replies import Rating, Unclear, read
from videollama2.evals.judge.run import judge_run
from videollama2.evals.registry import benchmark
from videollama2.evals.run import evaluate

from . import open_miniatures
from .fake import FakeEngine
from .judge_server import FakeJudge, fake_judge, fields, verdict
from .results import result
from .test_judge import answered, judge, judged, write

MATCH, DETAIL = KINDS["match"], KINDS["detail"]


@pytest.fixture
def server() -> Iterator[FakeJudge]:
    with fake_judge() as found:
        yield found


_PIECES = [
    *"{}[]()'\\\n", ": ", ", ", "'score'", '"score"', "'pred'", "'yes'", '"no"', "5", "-1", "1e999", "None", "null",
    "True", "```json", "<think>", "</think>", "0x" + "f" * 9000, "9" * 5000,
]  # fmt: skip

STRICT: dict[str, tuple[float, str] | None] = {
    '{"pred": "yes", "score": 4}': (4, "yes"),
    "{'pred': 'no', 'score': 0}": (0, "no"),
    '  {"pred": "Yes.", "score": "3"} ': (3, "yes"),
    '```json\n{"pred": "no", "score": 2.5}\n```': (2.5, "no"),
    'It is the same. {"pred": "yes", "score": 5}. Done.': (5, "yes"),
    '<think>{"pred": "no", "score": 1}?</think>{"pred": "yes", "score": 5}': (5, "yes"),
    '{"pred": true, "score": 5, "why": "a\\nb"}': (5, "yes"),
    "{'pred': 'yes', 'score': 5, 'why': 'a \\d pattern'}": (5, "yes"),
    '{"pred": "yes", "score": 5} and again {"pred": "yes", "score": 5}': (5, "yes"),
    '{"pred": "no", "score": 0} {"pred": "yes", "score": 5}': None,
    '{"pred": "yes", "score": 6}': None,
    '{"pred": "yes", "score": -1}': None,
    '{"pred": "yes", "score": NaN}': None,
    '{"pred": "yes", "score": true}': None,
    '{"pred": "yes", "score": null}': None,
    '{"pred": "yes"}': None,
    '{"pred": "maybe", "score": 3}': None,
    '{"score": 3}': None,
    '{"pred": "yes", "score": ' + "9" * 5000 + "}": None,
    "": None,
    "yes": None,
    "[1, 2]": None,
    "{" * 50_000: None,
    "[" * 50_000: None,
    "{'score': __import__('os').getpid(), 'pred': 'yes'}": None,
    "{'pred': 'yes', 'score': 2+3}": None,
    "{'pred': 'yes', 'score': 0x" + "f" * 5000 + "}": None,
    "{'score': 1, 'pred': 0x" + "f" * 5000 + "}": None,
}


@pytest.mark.parametrize("reply", STRICT, ids=lambda reply: reply[:40])
def test_replies_are_read(reply: str) -> None:
    expected = STRICT[reply]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        if expected is None:
            with pytest.raises(Unclear):
                read(reply, MATCH, "strict")
        else:
            assert read(reply, MATCH, "strict") == Rating(*expected)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.sampled_from(_PIECES) | st.text(max_size=5), max_size=12).map("".join))
@example("{'pred': '\\N{', 'score': 1}")
def test_no_reply_is_too_odd(reply: str) -> None:
    for kind in (MATCH, DETAIL, KINDS["match_av"], KINDS["caption_detail"]):
        for setting in ("strict", "paper"):
            try:
                said = read(reply, kind, setting)  # type: ignore[arg-type]
            except Unclear:
                continue
            assert setting == "paper" or 0 <= said.score <= 5


@pytest.mark.parametrize(
    ("kind", "reply", "expected"),
    [
        ("match", "{'pred': 'yes', 'score': 4.8}", (4, "yes")),
        ("match", "{'pred': 'yes, mostly', 'score': '4'}", (4, "yes")),
        ("match", "{'pred': 'maybe', 'score': 4}", None),
        ("match", "{'pred': 'yes', 'score': 'high'}", None),
        ("match", "Sure: {'pred': 'yes', 'score': 4}", None),
        ("match", '{"pred": "yes", "score": null}', None),
        ("match", "4", None),
        ("match_av", "{'binary_pred': 'yes', 'score': 4}", (4, "yes")),
        ("match_av", "{'binary_pred': 'Yes it is', 'score': 4}", (4, "no")),
        ("match_av", "{'pred': 'yes', 'score': 4}", (4, "no")),
        ("detail", "{'score': 3.9}", (3, None)),
        ("detail", "{'detail': 3}", None),
        ("caption_detail", "{'detail': 3, 'score': 1}", (3, None)),
        ("caption_detail", "{}", None),
    ],
)
def test_replies_are_read_as_published(kind: str, reply: str, expected: Any) -> None:
    if expected is None:
        with pytest.raises(Unclear):
            read(reply, KINDS[kind], "paper")
    else:
        assert read(reply, KINDS[kind], "paper") == Rating(*expected)


@pytest.mark.parametrize("setting", ["strict", "paper"])
def test_prompts_hold_what_is_judged(setting: Setting) -> None:
    values = {"question": "Is {answer} a dog?", "answer": ("one", "two"), "prediction": "{question}"}
    pair = {"question1": "One?", "question2": "Two?", "answer": "x", "prediction1": "{answer}", "prediction2": "q"}
    for kind in KINDS.values():
        prompt = prompt_of(kind, setting)
        system, user = (m["content"] for m in fill(prompt, pair if kind.paired else values))
        held = fields({"messages": [{}, {"content": user}]})
        if kind.paired:
            assert held["predicted answer to question 1"] == "{answer}" and held["question 2"] == "Two?"
        else:
            assert held == {"question": "Is {answer} a dog?", "correct answer": ["one", "two"],
                            "predicted answer": "{question}"}  # fmt: skip
        assert ("'yes' or 'no'" in user or '"yes" or "no"' in system) == kind.verdict
        assert all(aim in system for aim in kind.aim)
        places = [
            line.partition(":")[0].lower()
            for line in fill(swapped(prompt), pair if kind.paired else values)[1]["content"].split("\n")
        ]
        assert places.index("correct answer") > max(i for i, p in enumerate(places) if p.startswith("predicted"))
    assert len({prompts_hash({k.name: prompt_of(k, s)}) for k in KINDS.values() for s in ("strict", "paper")}) > 12


def test_every_benchmark_knows_what_it_is_judged_for() -> None:
    assert {kind for kinds in JUDGED.values() for kind in kinds} <= KINDS.keys()
    parts = {part: kinds_of(result("a", benchmark="video-chatgpt", categories={"part": part}))
             for part in ("generic", "temporal", "consistency")}  # fmt: skip
    assert {part: [k.name for k in kinds] for part, kinds in parts.items()} == {
        "generic": ["correctness", "detail", "context"], "temporal": ["temporal"], "consistency": ["consistency"],
    }  # fmt: skip
    assert [k.name for k in kinds_of(result("a", benchmark="activitynet_qa"))] == ["match"]


def test_a_pair_is_judged_together(tmp_path: Path, server: FakeJudge) -> None:
    def half(id: str, place: str, reply: str | None) -> Any:
        categories = {"part": "consistency", "pair": id, "pair_place": place}
        return answered(f"{id}-{place}", reply, "a dog", benchmark="video-chatgpt", categories=categories,
                        question=f"Which {place}?")  # fmt: skip

    results = [half("x", "1", "a dog"), half("x", "2", "a dog"), half("y", "1", "a dog"), half("y", "2", "a cat"),
               half("z", "1", "a dog"), half("z", "2", None), half("w", "1", "a dog")]  # fmt: skip
    folder = write(tmp_path / "video-chatgpt", results)
    judged(folder, judge(server))
    said = {j.id: (j.state, j.score) for j in read_judgements(folder)}
    failed = ("failed", None)
    assert said == {"x-1": ("judged", 5), "y-1": ("judged", 1), "z-1": failed, "w-1": failed}
    assert {"question 1", "question 2"} <= fields(server.asked[0]).keys()
    # the second half of a pair that changes makes the judgement stale
    write(folder, [*results[:3], half("y", "2", "a dog"), *results[4:]])
    summary = judge_summary(folder)
    assert summary is not None and summary["stale"] == 1


def test_prompts_of_a_user(tmp_path: Path, server: FakeJudge) -> None:
    path = tmp_path / "prompts.json"
    path.write_text(json.dumps({"match": {"system": "S", "user": "{question}|{answer}|{prediction}|{'pred': 'yes'}"}}))
    prompts = read_prompts(path)
    folder = write(tmp_path / "run", [answered("a", "a dog", "a dog", "a hound")])
    server.answer = lambda body: '{"pred": "yes", "score": 5}'
    done = judged(folder, judge(server), prompts=prompts)
    content = [m["content"] for m in server.asked[0]["messages"]]
    assert content == ["S", "What is in a?|['a dog', 'a hound']|a dog|{'pred': 'yes'}"]
    assert done.manifest["judges"][0]["prompts_given"] == ["match"]
    with pytest.raises(UsageError, match="on separate lines of the judge's prompt"):
        judged(folder, judge(server), prompts=prompts, probes=["order"])
    for text, word in (
        ("[]", "expected {KIND"), ("{", "can't be read as JSON"), ('{"beauty": {}}', "'beauty': expected"),
        ('{"match": {"system": "S", "user": "{answer}"}}', r"has no \{prediction\}"),
    ):  # fmt: skip
        path.write_text(text)
        with pytest.raises(DataError, match=word):
            read_prompts(path)
    path.write_text('{"match": {"system": "S", "user": "{answer} {prediction} {colour}"}}')
    with pytest.raises(UsageError, match=r"has \{colour\}"):
        judged(folder, judge(server), prompts=read_prompts(path))


def line(id: str, score: float | None, verdict: Any = None, **changes: Any) -> Judgement:
    whole: dict[str, Any] = {
        "id": id, "ablation": "none", "judge": "j", "kind": "match", "reference": None, "probe": None,
        "setting": "strict", "state": "failed" if score is None else "judged", "score": score, "verdict": verdict,
        "reply": None, "error": None, "tokens_in": None, "tokens_out": None, "served": None, "asked": "", "about": "",
        "request": None,
    }  # fmt: skip
    return Judgement(**(whole | changes))


def test_what_failed_never_scores_and_stays_in_the_denominator() -> None:
    lines = [line("a", 5, "yes"), line("b", 1, "no"), line("c", None), line("d", None, state="unparsable")]
    assert figures(lines) == [{
        "ablation": "none", "judge": "j", "kind": "match", "accuracy": 0.25, "score": 1.5, "questions": 4, "judged": 2,
        "unparsable": 1, "failed": 1,
    }]  # fmt: skip
    published = [line(j.id, j.score, j.verdict, setting="paper", state=j.state) for j in lines]
    assert (figures(published)[0]["accuracy"], figures(published)[0]["score"]) == (0.5, 3)
    av = [line(j.id, j.score, j.verdict, setting="paper", state=j.state, kind="match_av") for j in lines]
    assert (figures(av)[0]["accuracy"], figures(av)[0]["score"]) == (0.25, 1.5)
    sounds = [line("a", s, setting="paper", kind="sound_detail", reference=i) for i, s in enumerate((5, 4, 3, None, 3))]
    assert item_values(sounds) == {"score": {"a": 3.0}}
    assert figures([]) == [] and figures([line("a", None, setting="paper")])[0]["score"] is None


def test_agreement_and_bias(tmp_path: Path, server: FakeJudge) -> None:
    results = [
        answered(
            f"q{i}", "a dog" if i < 6 else "a cat", "a dog", scores={"exact_match": float(i < 6), "token_f1": i / 10}
        )
        for i in range(10)
    ]
    folder = write(tmp_path / "run", results)

    def biased(body: dict[str, Any]) -> str:
        held, lines = fields(body), body["messages"][1]["content"].split("\n")
        if len(held["predicted answer"]) > 100:  # length convinces it
            return '{"pred": "yes", "score": 5}'
        if body["model"] == "k" and lines[0].startswith("question") and lines[1].startswith("predicted"):
            return '{"pred": "no", "score": 1}'  # and k trusts what comes first
        if body["model"] == "k" and held["question"] == "What is in q0?":
            return '{"pred": "no", "score": 1}'
        return verdict(held)

    server.answer = biased
    judged(folder, judge(server), judge(server, "k"), probes=["order", "verbosity"], probe_items=10)
    summary = judge_summary(folder)
    assert summary is not None and summary["stale"] == 0
    assert [(f["judge"], f["accuracy"], f["questions"]) for f in summary["figures"]] == [("j", 0.6, 10), ("k", 0.5, 10)]
    (both,) = summary["judges"]
    assert both["judges"] == ["j", "k"] and both["same"] == 0.9 and both["kappa"] == pytest.approx(0.8)
    assert both["shift"] == pytest.approx(-0.4) and 0.7 < both["spearman"] < 1
    measures = {(m["judge"], m["measure"]): m for m in summary["measures"]}
    assert measures["j", "rules"]["kappa"] == measures["j", "exact_match"]["kappa"] == 1
    assert measures["k", "rules"]["kappa"] == pytest.approx(0.8) and measures["j", "token_f1"]["kappa"] is None
    assert measures["j", "token_f1"]["spearman"] == pytest.approx(-0.853, abs=0.001)
    found = {(b["judge"], b["probe"]): b for b in summary["bias"]}
    assert (found["j", "order"]["changed"], found["j", "order"]["questions"]) == (0, 10)
    assert found["k", "order"]["changed"] == found["k", "order"]["to_no"] == 0.5 and found["k", "order"]["shift"] == -2
    assert found["j", "verbosity"]["to_yes"] == 0.4 and found["j", "verbosity"]["shift"] == pytest.approx(1.6)
    assert padded("x") == PADDING.replace("{prediction}", "x")
    # probes never count, and stay when only the plain questions are asked again
    judged(folder, judge(server))
    assert judge_summary(folder) == summary
    assert judge_summary(write(tmp_path / "other", results)) is None


def test_the_command(tmp_path: Path, server: FakeJudge, capsys: pytest.CaptureFixture[str], monkeypatch: Any) -> None:
    write(tmp_path / "out" / "msvd-qa", [answered("a", "a dog", "a dog"), answered("b", None, "a dog")])
    write(tmp_path / "out" / "mvbench", [answered("a", "A", "A", benchmark="mvbench")])
    monkeypatch.setenv("VIDEOLLAMA2_CACHE", str(tmp_path / "cache"))
    call = ["eval", "judge", str(tmp_path / "out"), "--endpoint", server.url, "--judge-model", "j"]
    assert main([*call, "--judge-model", "k", "--parameter", "seed=7", "--parameter", "max_tokens=null", "-q"]) == 0
    out, err = capsys.readouterr()
    assert "j · match · none: score 2.500  accuracy 0.500  (1 judged, 0 unparsable, 1 failed)" in out
    assert "2 requests (" in out and "the model gave no reply to b" in err
    assert server.asked[0]["seed"] == 7 and "max_tokens" not in server.asked[0]
    assert any((tmp_path / "cache" / "judge").rglob("*.json"))
    assert main([*call, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)[str(tmp_path / "out" / "msvd-qa")]
    assert told["states"] == {"judged": 1, "failed": 1} and told["spent"]["requests"] == 1
    server.answer = lambda body: "I can't say."
    assert main([*call, "--temperature", "1"]) == 1
    assert "(0 judged, 1 unparsable, 1 failed)" in capsys.readouterr().out
    monkeypatch.setenv("SOME_KEY", "  ")
    for flags, word in (
        (["--key-variable", "SOME_KEY"], "pass the variable's name, not the key"),
        (["--parameter", "seed"], "is not NAME=JSON"), (["--parameter", 'model="x"'], "its own model"),
        (["--max-money", "1"], "needs both prices per million tokens"),
        (["--max-calls", "-1"], "budget: expected calls of 0 or more, got -1"),
        (["--endpoint", "http://x/v1", "--endpoint", "http://y/v1"], "3 endpoints for 1 judges"),
        (["--timeout", "0"], "is not possible"), (["--prompts", "none.json"], ""),
    ):  # fmt: skip
        assert main([*call, *flags]) in (2, 3), flags
        assert word in capsys.readouterr().err
    assert main(["eval", "judge", str(tmp_path), "--endpoint", server.url, "--judge-model", "j"]) == 2
    assert "holds no run to judge" in capsys.readouterr().err


@pytest.mark.parametrize("setting", ["strict", "paper"])
@pytest.mark.parametrize("name", sorted({name.partition("/")[0] for name in JUDGED} - {"avhbench-captions"}))
def test_every_judged_benchmark_from_its_files_to_its_figures(
    name: str, setting: Setting, tmp_path: Path, server: FakeJudge
) -> None:
    getattr(open_miniatures, name.replace("-", "_"))(tmp_path / "data")
    asks_for_yes = ("'yes'", '"yes"')

    def reply(body: dict[str, Any]) -> str:
        verdict = any(word in m["content"] for m in body["messages"] for word in asks_for_yes)
        return "{'pred': 'no', 'binary_pred': 'no', 'score': 2}" if verdict else "{'score': 2}"

    server.answer = reply
    run = evaluate(FakeEngine(otherwise="a dog"), benchmark(name), tmp_path / "data", tmp_path, setting=setting)
    done = judge_run(run.folder, [judge_at(server.url, "j", {})], cache=tmp_path / "cache", setting=setting)
    lines = read_judgements(run.folder)
    assert {j.kind for j in lines} == {k for n, kinds in JUDGED.items() if n.partition("/")[0] == name for k in kinds}
    # each item whose answer is public is judged, of a pair the first; what failed is failed here
    expected = {r.id for r in run.results if r.truth and r.categories.get("pair_place") != "2"}
    failed = {r.id for r in run.results if r.reply is None}
    assert {j.id for j in lines} == expected and {j.id for j in lines if j.state == "unparsable"} == set()
    assert {j.id for j in lines if j.state == "judged"}.isdisjoint(failed)
    assert all(j.score == 2 for j in lines if j.state == "judged") and done.states["judged"] >= 2
    summary = judge_summary(run.folder)
    assert summary is not None and summary["stale"] == 0 and summary["measures"]
    assert {f["kind"] for f in summary["figures"]} == {j.kind for j in lines}


def test_addresses_and_limits(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    assert read_endpoint("http://localhost:8000/v1/").public == "http://localhost:8000/v1/chat/completions"
    assert read_endpoint("https://h/v1/chat/completions?key=x").public == "https://h/v1/chat/completions"
    assert read_endpoint("http://[::1]:8000").public == "http://[::1]:8000/chat/completions"
    for wrong in ("", "localhost:8000", "file:///etc/passwd", "http://", "http://u:secret@h/v1", "http://h:99999/v1",
                  "http://h/v1\r\nX: y", "http://a..b/v1", "http://[::1/v1"):  # fmt: skip
        with pytest.raises(UsageError) as error:
            read_endpoint(wrong)
        assert "secret" not in str(error.value)
    monkeypatch.setenv("K", "a\nb")
    with pytest.raises(UsageError, match="no key has"):
        judge_at("http://h/v1", "j", {}, "K")
    with pytest.raises(UsageError, match="expected the name of a model of the endpoint"):
        judge_at("http://h/v1", " ", {})
    with pytest.raises(UsageError, match="not the key") as hidden:
        judge_at("http://h/v1", "j", {}, "sk-given-by-mistake")
    assert "mistake" not in str(hidden.value)
    monkeypatch.setenv("K", "abc")
    judge_at("http://h/v1", "j", {}, "K")
    assert "without encryption" in caplog.text
    with pytest.raises(UsageError, match="longest"):
        Patience(first_pause_s=5, longest_pause_s=1)
    with pytest.raises(UsageError, match="budget: expected money of 0 or more, got nan"):
        Cap(money=float("nan"), price_in=1, price_out=1)


def test_a_withheld_or_failed_result_makes_no_question() -> None:
    prompts = {name: prompt_of(kind, "strict") for name, kind in KINDS.items()}
    results = [answered("a", "x"), answered("b", None, "y"), answered("c", "", "y")]
    questions = questions_of(results, ["match"], "strict", prompts)
    assert [(q.result.id, q.unasked is None) for q in questions] == [("b", False), ("c", True)]
