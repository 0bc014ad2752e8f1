"""The older conversation templates of the public implementation's serving code, as data (spec §5.4).

For comparison, and for models trained with them; released checkpoints are prompted by their tokenizer's own chat
template (prompts.py). Text is inserted verbatim here, so only pass trusted text.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from ..errors import PromptError

Style = Literal["SINGLE", "TWO", "LLAMA2", "QWEN", "PLAIN"]

_CHAT = (
    "A chat between a curious {0} and an artificial intelligence assistant. "
    "The assistant gives helpful, detailed, and polite answers to the {0}'s questions."
)
_TAGGED = (
    "A chat between a curious user and an artificial intelligence assistant. The assistant is able to understand the "
    "visual content that the user provides, and assist the user with a variety of tasks using natural language."
    "The visual content will be provided with the following format: <Image>visual content</Image>."
)
_VISION = (
    "You are a helpful language and vision assistant. You are able to understand the visual content that the user "
    "provides, and assist the user with a variety of tasks using natural language."
)
_LLAMA2 = (
    "You are a helpful, respectful and honest assistant. Always answer as helpfully as possible, while being safe.  "
    "Your answers should not include any harmful, unethical, racist, sexist, toxic, dangerous, or illegal content. "
    "Please ensure that your responses are socially unbiased and positive in nature.\n\nIf a question does not make "
    "any sense, or is not factually coherent, explain why instead of answering something not correct. If you don't "
    "know the answer to a question, please don't share false information."
)


@dataclass(frozen=True)
class ConversationTemplate:
    """System text, names of the two roles, and the separators between and after turns."""

    style: Style
    system: str
    roles: tuple[str, str]
    sep: str
    sep2: str | None = None
    version: str = "Unknown"

    def prompt(self, turns: Sequence[str | None]) -> str:
        """The prompt for texts of user and assistant in turn; None (or "") leaves the last turn open for the answer."""
        return _WRITERS[self.style](self, [(self.roles[k % 2], k % 2, text or "") for k, text in enumerate(turns)])


_Turns = Sequence[tuple[str, int, str]]  # name of the role, 0 user or 1 assistant, text


def _named(template: ConversationTemplate, turns: _Turns) -> str:
    """`USER: question ASSISTANT: answer</s>`, alternating between two separators if there are two."""
    seps = (template.sep, template.sep if template.sep2 is None else template.sep2)
    body = "".join(f"{role}: {text}{seps[who]}" if text else f"{role}:" for role, who, text in turns)
    return template.system + template.sep + body


def _llama2(template: ConversationTemplate, turns: _Turns) -> str:
    """`[INST] <<SYS>>…<</SYS>> question [/INST] answer </s>`."""
    prompt = ""
    for k, (_, who, text) in enumerate(turns):
        if k == 0:
            text = f"<<SYS>>\n{template.system}\n<</SYS>>\n\n{text}"
        if text:
            prompt += f" {text} {template.sep2}" if who else f"{template.sep}[INST] {text} [/INST]"
    return prompt.lstrip(template.sep)


def _qwen(template: ConversationTemplate, turns: _Turns) -> str:
    """ChatML: the roles contain their markers."""
    end = template.sep + "\n"
    return template.system + end + "".join(role + text + end if text else role for role, _, text in turns)


def _plain(template: ConversationTemplate, turns: _Turns) -> str:
    """Only texts and separators."""
    seps = (template.sep, template.sep2 or "")
    return template.system + "".join(role + text + seps[who] if text else role for role, who, text in turns)


_WRITERS = {"SINGLE": _named, "TWO": _named, "LLAMA2": _llama2, "QWEN": _qwen, "PLAIN": _plain}

_SHOUTED = ("USER", "ASSISTANT")
_CHATML = ("<|im_start|>user\n", "<|im_start|>assistant\n")
_V0 = ConversationTemplate("SINGLE", _CHAT.format("human"), ("Human", "Assistant"), "###")
_V0_TAGGED = ConversationTemplate("SINGLE", _TAGGED, ("Human", "Assistant"), "###", version="v0_mmtag")
_V1 = ConversationTemplate("TWO", _CHAT.format("user"), _SHOUTED, " ", "</s>", "v1")
_PLAIN = ConversationTemplate("PLAIN", "", ("", ""), "", "\n")

CONVERSATION_TEMPLATES: dict[str, ConversationTemplate] = {
    "default": _V0,
    "v0": _V0,
    "llava_v0": _V0,
    "v0_mmtag": _V0_TAGGED,
    "v1": _V1,
    "vicuna_v1": _V1,
    "llava_v1": ConversationTemplate("TWO", _CHAT.format("human"), _SHOUTED, " ", "</s>", "v1"),
    "v1_mmtag": ConversationTemplate("TWO", _TAGGED, _SHOUTED, " ", "</s>", "v1_mmtag"),
    "plain": _PLAIN,
    "v0_plain": _PLAIN,
    "llama2": ConversationTemplate("LLAMA2", _LLAMA2, _SHOUTED, "<s>", "</s>", "llama2"),
    "llava_llama2": ConversationTemplate("LLAMA2", _VISION, _SHOUTED, "<s>", "</s>", "llama2"),
    "mistral": ConversationTemplate("LLAMA2", _CHAT.format("user"), _SHOUTED, "", "</s>", "llama2"),
    "qwen": ConversationTemplate(
        "QWEN", "<|im_start|>system\nYou are a helpful assistant.", _CHATML, "<|im_end|>", version="qwen"
    ),
    "qwen_plain": ConversationTemplate("PLAIN", "", _CHATML, "<|im_end|>", "<|im_end|>", "qwen_plain"),
}


def conversation_template(name: str) -> ConversationTemplate:
    """The template with that name. Raises PromptError if unknown."""
    if name not in CONVERSATION_TEMPLATES:
        raise PromptError(f"unknown conversation template {name!r}; known: {', '.join(CONVERSATION_TEMPLATES)}.")
    return CONVERSATION_TEMPLATES[name]
