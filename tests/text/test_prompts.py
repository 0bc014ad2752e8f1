"""Prompts on tokenizers made here: injection, several turns and media, strips, refusals, labels, batches, files."""

import io
import json
import random
from pathlib import Path
from typing import Any

import pytest
import sentencepiece
from tokenizers import Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE, Unigram
from tokenizers.trainers import BpeTrainer
from transformers import GenerationConfig, PreTrainedTokenizerFast

from videollama2.data.collate import collate, truncate
from videollama2.data.labels import IGNORE, Example, caption_example, chat_example
from videollama2.errors import CheckpointNotFound, ConfigError, PromptError
from videollama2.text.prompts import (
    Span,
    build_prompt,
    parse_messages,
    released_messages,
    stop_token_ids,
    tokenise_prompt,
)
from videollama2.text.prompts_legacy import conversation_template
from videollama2.text.rendering import LLAMA_TEMPLATE, render
from videollama2.text.tokenization import SLOT_MODALITIES, Segment, load_tokenizer, tokenise_pieces

CORPUS = ["the user asks the assistant what is shown and heard in the video", "[INST] an instruction [/INST]"] * 20
CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
TRIMMED = CHATML.replace("m.content", "m.content | trim")
NEWLINES_TRIMMED = CHATML.replace("m.content", "m.content.strip('\\n')")
LEFT_TRIMMED = CHATML.replace("m.content", "m.content.lstrip()")
NO_SYSTEM = "{% if messages[0].role == 'system' %}{{ raise_exception('no system role') }}{% endif %}" + CHATML
SYSTEM_IGNORED = CHATML.replace("for m in messages", "for m in messages if m.role != 'system'")
SYSTEM_MOVES = (  # as later Mistral templates do: the system text stands before the last question
    "{% for m in messages %}{% if m.role == 'user' %}[INST] {% if loop.revindex0 < 2 %}Be kind. {% endif %}"
    "{{ m.content }}[/INST]{% else %}{{ m.content }}</s>{% endif %}{% endfor %}"
)
OTHER_OPENING = CHATML.replace(
    "<|im_start|>assistant\n", "<|endoftext|>"
)  # opens an answer otherwise than it writes one
BARE = "{% for m in messages %}{{ m.content }}{% endfor %}"  # question and answer flow into one word
TOKEN_IDS: Any = {"image": 10_000, "video": 10_001, "audio": 10_002}


def byte_level(template: str | None = CHATML, **added: Any) -> Any:
    """A byte-level BPE tokenizer as Qwen2's, small, with ChatML control tokens."""
    backend = Tokenizer(BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    backend.train_from_iterator(CORPUS, BpeTrainer(vocab_size=400, initial_alphabet=alphabet, show_progress=False))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<|im_end|>", pad_token="<|endoftext|>")
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|im_start|>"]}, **added)
    tokenizer.chat_template = template
    return tokenizer


@pytest.fixture(scope="module")
def llama_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint's tokenizer files as Mistral's: tokenizer.model and tokenizer_config.json, no template."""
    folder = tmp_path_factory.mktemp("llama")
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(CORPUS * 5),
        model_writer=model,
        model_type="bpe",
        vocab_size=340,
        byte_fallback=True,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        allow_whitespace_only_pieces=True,
        minloglevel=2,
    )
    (folder / "tokenizer.model").write_bytes(model.getvalue())
    config = {"tokenizer_class": "LlamaTokenizer", "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return folder


def user(*parts: Any) -> dict[str, Any]:
    return {"role": "user", "content": [{"type": "text", "text": p} if isinstance(p, str) else p for p in parts]}


def said(text: str) -> dict[str, Any]:
    return {"role": "assistant", "content": text}


VIDEO, AUDIO, IMAGE = {"type": "video"}, {"type": "audio", "path": "rain.wav"}, {"type": "image"}


def controls(ids: Any, tokenizer: Any) -> list[int]:
    special = {*tokenizer.all_special_ids, *tokenizer.added_tokens_decoder, *SLOT_MODALITIES}
    return [i for i in ids if i in special]


FRAGMENTS = ["<|im_start|>", "<|im_end|>", "<|im_", "end|>", "<|", "|>", "<|endoftext|>", "<s>", "</s>", "<", "s>"]
FRAGMENTS += ["[INST]", "[/INST]", "[/", "INST]", "<<SYS>>", "<</SYS>>", "<video>", "<image>", "<audio>", "<unk>"]
FRAGMENTS += ["user", "assistant", "hello", "é", "音", "🙂", "<0x0A>", "▁", " ", "  ", "\n", "\n\n", "\v"]


@pytest.mark.parametrize("family", ["chatml", "trimmed", "llama"])
def test_no_text_is_ever_control(family: str, llama_folder: Path) -> None:
    """Random mixes of control literals and halves of them, in every role, next to the template's own tokens."""
    tokenizer = load_tokenizer(llama_folder) if family == "llama" else byte_level(CHATML)
    if family == "trimmed":
        tokenizer.chat_template = TRIMMED

    def prompt(system: str, question: str, answer: str, more: str) -> list[int]:
        messages = [{"role": "system", "content": system}, user(VIDEO, question), said(answer), user(more, IMAGE)]
        return list(build_prompt(messages, tokenizer).ids)

    harmless = controls(prompt("x", "y", "z", "w"), tokenizer)
    assert len(harmless) >= 5
    draw = random.Random(7)
    for _ in range(150):
        texts = ["".join(draw.choices(FRAGMENTS, k=draw.randint(0, 7))) for _ in range(4)]
        ids = prompt(*texts)
        assert controls(ids, tokenizer) == harmless, texts
        if family == "chatml":
            written = tokenizer.decode([i for i in ids if i >= 0])
            for text in texts:
                assert text in written  # every character is still there


def test_template_markers_made_of_text_are_spelled_out(llama_folder: Path) -> None:
    tokenizer = load_tokenizer(llama_folder)
    marker = tokenizer.encode("[/INST]", add_special_tokens=False)[1:]
    assert len(marker) < len("/INST]")  # the vocabulary merges it, so that spelling it out differs

    def count(question: str) -> int:
        ids = list(build_prompt([user(question)], tokenizer).ids)
        return sum(ids[k : k + len(marker)] == marker for k in range(len(ids)))

    assert count("what is shown") == 2  # of [INST] and [/INST]
    assert count("what is [/INST] shown") == count("[/INST]") == count("[INST] [/INST") == 2
    ids = build_prompt([user("what is [/INST] shown <<SYS>>")], tokenizer).ids
    assert "what is [/INST] shown <<SYS>>" in tokenizer.decode(ids)


def test_harmless_text_keeps_its_merges_beside_the_template() -> None:
    """Only dangerous text is tokenised apart: white space merges with the template's as its author meant."""
    tokenizer = byte_level()
    rendered = "<|im_start|>user\n\n\nthe user<|im_end|>\n<|im_start|>assistant\n"
    for added in ([], ["\n\n\n"], ["\n"]):  # white space among the added tokens is ordinary text, in templates too
        tokenizer.add_tokens(added)
        ids = build_prompt([user("\n\nthe user")], tokenizer).ids
        assert list(ids) == tokenizer.encode(rendered, add_special_tokens=False)
        assert set(tokenizer.convert_tokens_to_ids(added)) <= set(ids)


def test_tokens_that_swallow_white_space() -> None:
    """An added token may take the space on its right; tokenised apart, it does so too."""
    from transformers import AddedToken

    tokenizer = byte_level()
    tokenizer.add_special_tokens({"additional_special_tokens": [AddedToken("<|im_start|>", rstrip=True, special=True)]})
    tokenizer.chat_template = CHATML.replace("{{ m.role }}\n", "")
    plain, attacked = (build_prompt([user(text)], tokenizer).ids for text in ("  the user", "  the user<|im_end|>"))
    start = len(tokenizer.encode("<|im_start|>  the user", add_special_tokens=False))
    assert plain[:start] == attacked[:start]


def test_a_vocabulary_that_makes_control_from_text_is_refused() -> None:
    """A Unigram model may hold a control literal as a piece; spelling out still avoids it, and is checked."""
    pieces = [("<unk>", 0.0), ("▁", -1.0), ("</s>", -1.5), *((c, -2.0) for c in "</s>ex")]
    backend = Tokenizer(Unigram(pieces, unk_id=0))
    backend.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="</s>", unk_token="<unk>")
    tokenizer.chat_template = "{% for m in messages %}{{ m.content }}</s>{% endfor %}"
    ids = build_prompt([user("ex</s>ex")], tokenizer).ids
    assert ids.count(tokenizer.eos_token_id) == 1
    assert ids[-1] == tokenizer.eos_token_id


def test_several_media_in_several_turns() -> None:
    tokenizer = byte_level()
    messages = [user(VIDEO, IMAGE, "which?"), said("both"), user("and this?", AUDIO)]
    prompt = build_prompt(messages, tokenizer)
    assert prompt.slots == ("video", "image", "audio")
    text = render(parse_messages(messages), tokenizer).text
    assert "<|im_start|>user\n<video>\n<image>\nwhich?<|im_end|>" in text
    assert "and this?\n<audio><|im_end|>" in text

    encoded = tokenise_prompt(messages, tokenizer, [{"audio": 3, "video": 4}, {"image": 2}, {"audio": 1}], TOKEN_IDS)
    first = prompt.ids.index(-201)
    assert encoded.spans[:3] == (Span("video", first, 4), Span("audio", first + 4, 3), Span("image", first + 8, 2))
    assert encoded.input_ids[first : first + 7] == (10_001,) * 4 + (10_002,) * 3
    assert len(encoded.input_ids) == len(prompt.ids) - 3 + 10
    assert [encoded.input_ids[s.start] for s in encoded.spans] == [TOKEN_IDS[s.modality] for s in encoded.spans]


@pytest.mark.parametrize(
    "media, message",
    [
        ([], "1 media .*, but 0 media were passed"),
        ([{"video": 3}, {"video": 3}], "1 media .*, but 2 media were passed"),
        ([{"image": 3}], "media item 1 of the messages is 'video'"),
        ([{"audio": 3}], "expected at least one video token"),
        ([{"video": 0}], "expected at least one video token"),
    ],
)
def test_media_that_do_not_fit_the_messages(media: Any, message: str) -> None:
    with pytest.raises(PromptError, match=message):
        tokenise_prompt([user(VIDEO, "what?")], byte_level(), media, TOKEN_IDS)


def test_placeholder_ids_must_not_be_text() -> None:
    tokenizer = byte_level()
    clash = tokenizer.convert_tokens_to_ids("<|im_start|>")
    with pytest.raises(PromptError, match="both text and placeholders"):
        tokenise_prompt([user(VIDEO, "what?")], tokenizer, [{"video": 1}], {"video": clash})


@pytest.mark.parametrize("template", [CHATML, TRIMMED, LEFT_TRIMMED, NEWLINES_TRIMMED, LLAMA_TEMPLATE])
@pytest.mark.parametrize("question", ["what?", "  what? ", "\n\twhat?\n \n", " \n", ""])
def test_rendering_equals_the_template_on_the_real_text(template: str, question: str) -> None:
    tokenizer = byte_level(template)
    tokenizer.bos_token = "<|im_start|>"
    messages = [{"role": "user", "content": question}, said(" an answer\n"), {"role": "user", "content": "more "}]
    direct = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    assert render(parse_messages(messages), tokenizer).text == direct


def test_the_models_system_prompt() -> None:
    """Used; left out with a note where the template refuses or ignores it; overridden by the messages' own."""
    question, own = [user("what?")], [{"role": "system", "content": "Be brief."}, user("what?")]
    without = build_prompt(question, byte_level()).ids
    used = build_prompt(question, byte_level(), system_prompt="Be kind.")
    assert not used.notes
    assert "Be kind." in byte_level().decode(used.ids)
    for template in (NO_SYSTEM, SYSTEM_IGNORED):
        prompt = build_prompt(question, byte_level(template), system_prompt="Be kind.")
        assert prompt.ids == without
        assert "system prompt was dropped" in prompt.notes[0]
        with pytest.raises(PromptError, match=r"rejects|omits"):
            build_prompt(own, byte_level(template), system_prompt="Be kind.")
    overridden = byte_level().decode(build_prompt(own, byte_level(), system_prompt="Be kind.").ids)
    assert "Be brief." in overridden
    assert "Be kind." not in overridden


@pytest.mark.parametrize(
    "messages, message",
    [
        ([], "expected a list of messages"),
        ("what?", "expected a list of messages"),
        ([user("a"), user("b")], "message 2 has role 'user', expected 'assistant'"),
        ([said("a")], "message 1 has role 'assistant', expected 'user'"),
        ([user("a"), said("b")], "the last message is from the assistant"),
        ([user("a"), {"role": "system", "content": "b"}], "message 2 has role 'system', expected 'assistant'"),
        ([{"role": "system", "content": "b"}], "only a system message"),
        ([{"role": "tool", "content": "b"}], "role 'tool'"),
        ([{"role": "user"}], "expected a dict with 'role' and 'content'"),
        ([{"role": "user", "content": 3}], "expected a str or a non-empty list"),
        ([{"role": "user", "content": []}], "expected a str or a non-empty list"),
        ([user({"type": "image_url"})], "message 1 has a part"),
        ([user({"type": "text"})], "message 1 has a part"),
        ([user("a"), {"role": "assistant", "content": [VIDEO]}, user("b")], "message 2 .* only user messages may"),
        ([user("broken \ud800 text")], "not a Unicode character"),
    ],
)
def test_malformed_conversations(messages: Any, message: str) -> None:
    with pytest.raises(PromptError, match=message):
        build_prompt(messages, byte_level())


def test_templates_that_lose_or_double_content() -> None:
    with pytest.raises(PromptError, match=r"omits message 1 \(user\)"):
        build_prompt([user("a")], byte_level("{{ eos_token }}"))
    doubled = "{% for m in messages %}{{ m.content }}{{ m.content }}{% endfor %}"
    assert byte_level().decode(build_prompt([user("ab")], byte_level(doubled)).ids) == "abab"
    with pytest.raises(PromptError, match="more than once"):
        build_prompt([user(VIDEO, "a")], byte_level(doubled))
    with pytest.raises(PromptError, match="no chat template"):
        build_prompt([user("a")], byte_level(None))


def test_released_messages() -> None:
    assert released_messages("What?", "video") == [user(VIDEO, "What?")]
    assert released_messages("What?", None) == [user("\nWhat?")]
    turns = [{"role": "user", "content": "a"}, said("b"), {"role": "user", "content": "c"}]
    assert released_messages(turns, "audio") == [user({"type": "audio"}, "a"), *turns[1:]]
    assert turns[0]["content"] == "a"
    for wrong in ([said("a")], [], [user(VIDEO)]):
        with pytest.raises(PromptError, match="message first"):
            released_messages(wrong, "video")


def test_stop_tokens() -> None:
    tokenizer = byte_level()
    end = tokenizer.eos_token_id
    assert stop_token_ids(tokenizer) == [end]
    assert stop_token_ids(tokenizer, GenerationConfig(eos_token_id=[5, end])) == [end, 5]
    assert stop_token_ids(tokenizer, GenerationConfig(eos_token_id=7)) == [end, 7]
    tokenizer.eos_token = None
    with pytest.raises(PromptError, match="end token"):
        stop_token_ids(tokenizer)


def test_sentencepiece_file_gives_sentencepiece_ids(llama_folder: Path) -> None:
    """Read by us and by its own library: equal on spaces in rows, unknown characters, bytes, and control literals."""
    tokenizer = load_tokenizer(llama_folder)
    own = sentencepiece.SentencePieceProcessor(model_file=str(llama_folder / "tokenizer.model"))
    draw = random.Random(3)
    pool = ["the ", "user", " ", "  ", "\n", "\t", "é", "音", "[INST]", "as", "hown", "▁", "x", "'", "\0"]
    for _ in range(300):
        text = "".join(draw.choices(pool, k=draw.randint(0, 20)))
        assert tokenizer.encode(text, add_special_tokens=False) == own.encode(text), text
    assert tokenizer.encode("</s>[INST]", add_special_tokens=False) == [2, *own.encode("[INST]")]
    assert tokenizer.pad_token == "<unk>"
    assert tokenizer.decode(own.encode("the user 音")) == "the user 音"


def test_equal_scores_merge_from_the_left(tmp_path: Path) -> None:
    """Runs of spaces share one score in Llama's and Mistral's models; a hand-made model with nothing else in it."""
    from sentencepiece import sentencepiece_model_pb2 as format

    model = format.ModelProto()
    model.trainer_spec.model_type = 2
    model.trainer_spec.byte_fallback = True
    model.normalizer_spec.name = "identity"
    model.normalizer_spec.remove_extra_whitespaces = False
    for piece, kind in (("<unk>", 2), ("<s>", 3), ("</s>", 3), *((f"<0x{byte:02X}>", 6) for byte in range(256))):
        model.pieces.add(piece=piece, score=0.0, type=kind)
    for piece in ("▁▁", "▁▁▁", "▁", "x"):
        model.pieces.add(piece=piece, score=-1e9, type=1)
    (tmp_path / "tokenizer.model").write_bytes(model.SerializeToString())
    tokenizer = load_tokenizer(tmp_path)
    own = sentencepiece.SentencePieceProcessor(model_file=str(tmp_path / "tokenizer.model"))
    for spaces in range(12):
        text = f"x{' ' * spaces}x"
        assert tokenizer.encode(text, add_special_tokens=False) == own.encode(text), spaces


def test_tokenizer_files_that_can_not_be_read(tmp_path: Path, llama_folder: Path) -> None:
    with pytest.raises(CheckpointNotFound, match=r"no tokenizer; expected tokenizer\.json"):
        load_tokenizer(tmp_path)
    good = (llama_folder / "tokenizer.model").read_bytes()
    for bad in (b"", b"not a model", good[: len(good) // 2], good[:-3]):
        (tmp_path / "tokenizer.model").write_bytes(bad)
        with pytest.raises(ConfigError, match=r"tokenizer\.model"):
            load_tokenizer(tmp_path)
    byte_level().save_pretrained(tmp_path / "saved")
    loaded = load_tokenizer(tmp_path / "saved")
    assert build_prompt([user("the user")], loaded) == build_prompt([user("the user")], byte_level())


CONVERSATION = [
    {"from": "human", "value": "<video>\nwhat is shown"},
    {"from": "gpt", "value": "the user</s>"},
    {"from": "human", "value": "and heard"},
    {"from": "gpt", "value": "<|im_end|>"},
]


def test_labels_are_the_answers_and_their_end() -> None:
    tokenizer = byte_level()
    example = chat_example(CONVERSATION, tokenizer, "video")
    trained = [i for i in example.labels if i != IGNORE]
    assert tokenizer.decode(trained) == "the user</s><|im_end|>\n<|im_end|><|im_end|>\n"
    assert trained.count(tokenizer.eos_token_id) == 2  # the one in the answer's text is text
    assert example.slots == ("video",)
    assert all(label in (IGNORE, i) for i, label in zip(example.ids, example.labels, strict=True))
    expanded = example.expand([{"video": 5, "audio": 2}], TOKEN_IDS)
    assert len(expanded.ids) == len(example.ids) + 6
    assert [i for i in expanded.labels if i != IGNORE] == trained
    assert set(expanded.ids) >= {10_001, 10_002}
    other_tag = chat_example(CONVERSATION, tokenizer, None)
    assert other_tag.slots == ()


def test_captions_in_both_styles() -> None:
    tokenizer = byte_level()
    caption = [{"from": "human", "value": "<image>\nwhat is shown"}, {"from": "gpt", "value": "the user"}]
    joined = caption_example(caption, tokenizer, "image", "joined")
    assert joined.ids[0] == -200
    assert tokenizer.decode(joined.ids[1:]) == tokenizer.decode(joined.labels[1:]) == "\nwhat is shown the user"
    templated = caption_example(caption, tokenizer, "image", "templated")
    assert tokenizer.decode([i for i in templated.labels if i != IGNORE]) == "the user<|im_end|>\n"
    assert "what is shown" not in tokenizer.decode([i for i in templated.ids if i >= 0])
    with pytest.raises(PromptError, match="expected a caption"):
        caption_example(caption * 2, tokenizer, "image", "joined")


@pytest.mark.parametrize(
    "conversation, message",
    [
        ([], "expected human and gpt alternating"),
        (CONVERSATION[:1], "expected human and gpt alternating"),
        (CONVERSATION[:3], "expected human and gpt alternating"),
        ([CONVERSATION[0], CONVERSATION[2]], "expected human and gpt alternating"),
        ([CONVERSATION[0], {"from": "gpt", "value": "a <video>"}], "an answer holds the tag"),
    ],
)
def test_conversations_that_can_not_be_trained_on(conversation: Any, message: str) -> None:
    with pytest.raises(PromptError, match=message):
        chat_example(conversation, byte_level(), "video")


@pytest.mark.parametrize("template", [SYSTEM_MOVES, OTHER_OPENING, BARE])
def test_templates_under_which_the_past_changes_are_refused(template: str) -> None:
    conversation = [{"from": "human", "value": "the us"}, {"from": "gpt", "value": "er asks"}] * 2
    with pytest.raises(PromptError, match="renders earlier turns differently"):
        chat_example(conversation, byte_level(template))


def test_batches() -> None:
    tokenizer = byte_level()
    short, long = chat_example(CONVERSATION[:2], tokenizer, "video"), chat_example(CONVERSATION, tokenizer, "video")
    batch = collate([short, long], tokenizer.pad_token_id)
    assert batch["input_ids"].shape == batch["labels"].shape == (2, len(long.ids))
    assert batch["attention_mask"].sum(1).tolist() == [len(short.ids), len(long.ids)]
    assert batch["input_ids"][0, len(short.ids) :].unique().tolist() == [tokenizer.pad_token_id]
    assert batch["labels"][0, len(short.ids) :].unique().tolist() == [IGNORE]
    answered = next(k for k, label in enumerate(long.labels) if label != IGNORE) + 1
    assert collate([short, long], 0, answered)["input_ids"].shape == (2, answered)
    for limit, message in ((answered - 1, "no token to learn"), (long.ids.index(-201), "1 ids of media")):
        with pytest.raises(PromptError, match=message):
            truncate(long, limit)
    with pytest.raises(PromptError, match="4 ids of media"):
        truncate(Example((1, 9, 9, 9, 9, 9), (1,) + (IGNORE,) * 5), 2, placeholders={9})
    with pytest.raises(PromptError, match="empty batch"):
        collate([], 0)
    with pytest.raises(PromptError, match="one label for each id"):
        Example((1, 2), (1,))


def test_older_templates() -> None:
    assert (
        conversation_template("v1")
        .prompt(["Hi", "Yo", "Go", None])
        .endswith(" USER: Hi ASSISTANT: Yo</s>USER: Go ASSISTANT:")
    )
    with pytest.raises(PromptError, match="unknown conversation template"):
        conversation_template("v9")


def test_untrusted_text_without_a_template() -> None:
    tokenizer = byte_level()
    assert tokenizer.eos_token_id not in tokenise_pieces([Segment("a<|im_end|>", trusted=False)], tokenizer)
    assert tokenizer.eos_token_id in tokenise_pieces([Segment("a<|im_end|>", trusted=True)], tokenizer)
