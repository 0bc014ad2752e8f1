"""The processor as transformers, its pipelines and TRL call it: `processor(…)` and `apply_chat_template`.

    apply_chat_template ──► RenderedText ──┐ (remembered, for copies of it)
    text, with media in or beside it ──────┴─ prompt_inputs ── media_inputs ── pieces ── ids ──► BatchFeature

Which text acts as control tokens, and which is data: docs/decisions/0013-rendered-text-is-control.md.
"""

import copy
import logging
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from transformers import BatchFeature

from .call_options import CallOptions, flattened
from .errors import ContextOverflow, PromptError, UsageError
from .media.clip import Clip
from .processor_attributes import PARTS, ProcessorAttributes
from .protocols import Protocol
from .protocols import protocol as named_protocol
from .receipt import MediaReceipt
from .text.conversations import PromptInput, prompt_inputs, with_slots
from .text.media_parts import Media, PartDefaults, normalised
from .text.prompts import Message, SlotPrompt, TokenisedPrompt, parse_messages, render_turns
from .text.rendering import RenderedText, chat_template, slots_of_kinds, template_variables
from .text.tokenization import tokenise_marked, tokenise_pieces

logger = logging.getLogger(__name__)
MAX_REMEMBERED = 4096  # rendered texts


class TransformersCalls(ProcessorAttributes):
    """The half of the processor that follows transformers' conventions; `processing.py` has the other.

    Attributes:
        fetch: from a URL to bytes; None: media by URL are not allowed.
    """

    fetch: Callable[[str], bytes] | None
    _rendered: "OrderedDict[str, RenderedText]"
    _found_padding_side: str | None

    media_inputs: Callable[..., tuple[Any, MediaReceipt]]
    clip_inputs: Callable[[Clip, Media, Protocol], tuple[Any, MediaReceipt]]
    tokenise: Callable[[Sequence[Message], Sequence[MediaReceipt]], TokenisedPrompt]
    collate: Callable[..., BatchFeature]
    check_length: Callable[[int], None]
    media_batch: Callable[[Sequence[Media], CallOptions], BatchFeature]

    def __call__(
        self,
        text: Any = None,
        images: Any = None,
        videos: Any = None,
        audio: Any = None,
        *,
        protocol: str | Protocol | None = None,
        **kwargs: Any,
    ) -> BatchFeature:
        """A batch for `model(**batch)` and `model.generate(**batch)`.

        Args:
            text: a question, a conversation (a list of messages whose media parts have their sources, such as
                `{"type": "video", "video": "clip.mp4", "start": 2.0}`), text rendered by `apply_chat_template`, or a
                list of these. A question becomes a user turn; rendered text is used unchanged. None: media alone.
            images, videos, audio: media passed with the text: for one text, one or several; for a list of texts, a list
                with the media of each, or all of them in order. Paths, bytes, PIL images, arrays, tensors, lists of
                frames, or samples.
            protocol: how media are prepared (protocols.py); None: the model's own.
            kwargs: the fields of `CallOptions`, also by modality (`text_kwargs`, …). Defaults: padded torch tensors.

        Returns:
            `input_ids`, `attention_mask` and the media tensors of all prompts.

        Raises:
            VideoLlama2Error: see errors.py.
        """
        options = CallOptions.read(self._with_tokenizers_defaults(kwargs), return_tensors="pt")
        given = {"image": images, "video": videos, "audio": audio}
        if text is None and any(media is not None for media in given.values()):
            return self._media_alone(given, options)
        read, as_is = self._part_defaults(options), options.add_special_tokens is False
        typed = options.sanitize_control_tokens is not False
        inputs = prompt_inputs(self._recognised(text, typed=typed), given, read, as_is=as_is)
        return self._batch(inputs, options, protocol)

    def apply_chat_template(
        self,
        conversation: Any,
        chat_template: str | None = None,
        tools: Any = None,
        documents: Any = None,
        add_generation_prompt: bool = False,
        continue_final_message: bool | str = False,
        return_assistant_tokens_mask: bool = False,
        tokenize: bool = False,
        return_tensors: str | None = "auto",
        return_dict: bool = False,
        load_audio_from_video: bool | None = None,
        processor_kwargs: Mapping[str, Any] | None = None,
        sanitize_control_tokens: bool | None = None,
        **kwargs: Any,
    ) -> Any:
        """Like transformers', for one conversation or a list of them.

        Args:
            conversation: messages whose media parts have their sources, if the result is tokenised.
            chat_template: Jinja, or the name of one of the tokenizer's templates; None: the tokenizer's own.
            return_assistant_tokens_mask: adds `assistant_masks`, which mark the template's `{% generation %}` blocks,
                or, without them, the assistant's text and the end token after it.
            return_tensors: "pt", "np", or lists of ids that are not padded.
            return_dict: for tokenised conversations: the whole batch instead of the ids alone.
            load_audio_from_video: whether a video's audio is used; None: yes.
            processor_kwargs, kwargs: those of `__call__`; the latter may also contain template variables.

        Returns:
            `RenderedText`, or a list of them; if `tokenize`: ids, or a batch.

        Raises:
            UsageError: arguments that are unsupported, or contradict each other.
            PromptError: the template rejects a conversation.
        """
        if tools or documents:
            raise UsageError("this model does not support tools or documents; put their text into a message.")
        if sanitize_control_tokens is False and tokenize:
            sanitize_control_tokens = None  # transformers' default; here messages are always data
        if continue_final_message not in (True, False, None, "content"):
            raise UsageError(f"continue_final_message={continue_final_message!r}; expected True, False or 'content'.")
        if continue_final_message and (add_generation_prompt or return_assistant_tokens_mask):
            raise UsageError(
                "continue_final_message can't be combined with add_generation_prompt or return_assistant_tokens_mask."
            )
        template = self._template(chat_template)
        known = template_variables(template)
        variables = {name: value for name, value in kwargs.items() if name in known}
        calls = self._call_kwargs(processor_kwargs, {k: v for k, v in kwargs.items() if k not in known})
        if load_audio_from_video is not None:
            calls.setdefault("load_audio_from_video", load_audio_from_video)
        if return_tensors != "auto":
            calls["return_tensors"] = return_tensors
        protocol, beside = calls.pop("protocol", None), {"image": calls.pop("images", None)}
        options = CallOptions.read(self._with_tokenizers_defaults(calls), return_tensors=None)
        inputs = prompt_inputs(conversation, beside, self._part_defaults(options)) if tokenize else None
        conversations = (
            self._conversations(conversation) if inputs is None else [one.messages for one in inputs if not one.text]
        )
        texts = [
            self._render(
                one,
                given=chat_template is not None,
                template=template,
                variables=variables,
                add_generation_prompt=bool(add_generation_prompt),
                continue_final=bool(continue_final_message),
                mark=return_assistant_tokens_mask,
            )
            for one in conversations
        ]
        if inputs is None:
            for text in texts:
                self._remember(text)
            return texts if isinstance(conversation[0], list | tuple) else texts[0]
        rendered = [PromptInput([], text, one.media) for text, one in zip(texts, inputs, strict=True)]
        batch = self._batch(rendered, options, protocol)
        return batch if return_dict else batch["input_ids"]

    # ── what is rendered, what is typed ────────────────────────────────────────────────────────────────────────

    def _template(self, given: str | None) -> str:
        """The source of the chat template to use."""
        if given is None:
            return chat_template(self.tokenizer)
        named = self.tokenizer.chat_template
        return str(named[given]) if isinstance(named, dict) and given in named else given

    def _conversations(self, conversation: Any) -> list[list[Message]]:
        inputs = conversation if conversation and isinstance(conversation[0], list | tuple) else [conversation]
        return [normalised(one, PartDefaults()) for one in inputs]

    def _render(self, conversation: Sequence[Message], *, given: bool, **options: Any) -> RenderedText:
        turns = parse_messages(conversation)
        self.check_length(sum(len(part) for turn in turns for part in turn.parts if isinstance(part, str)))
        try:
            rendered, notes = render_turns(turns, self.tokenizer, system_prompt=self.config.system_prompt, **options)
        except PromptError as error:
            if given:
                raise UsageError(f"chat_template: {error}") from error
            raise
        for note in notes:
            logger.warning("%s", note)
        return rendered.text

    def _remember(self, text: RenderedText) -> None:
        """Store a rendered text, so that copies of it are recognised."""
        self._rendered[str(text)] = text
        self._rendered.move_to_end(str(text))
        while len(self._rendered) > MAX_REMEMBERED:
            self._rendered.popitem(last=False)

    def _recognised(self, text: Any, *, typed: bool) -> Any:
        """The text with rendered texts in place of their copies; warns about control tokens in other strings."""
        if isinstance(text, list | tuple) and text and all(isinstance(one, str) for one in text):
            return [self._recognised(one, typed=typed) for one in text]
        if not isinstance(text, str) or isinstance(text, RenderedText):
            return text
        if text in self._rendered:
            return self._rendered[text]
        if not typed:
            return RenderedText(with_slots(text, trusted=True))
        found = [token for token in self.tokenizer.all_special_tokens if token in text]
        if found:
            logger.warning(
                "the text contains %s, but this processor's apply_chat_template did not render it: it is read as plain "
                "text. Pass the conversation, the result of apply_chat_template, or sanitize_control_tokens=False",
                found[0],
            )
        return text

    # ── batches ────────────────────────────────────────────────────────────────────────────────────────────────

    def _part_defaults(self, options: CallOptions) -> PartDefaults:
        sound = options.load_audio_from_video
        return PartDefaults(
            num_frames=options.num_frames,
            fps=options.fps,
            all_frames=options.do_sample_frames is False,
            sound=sound is not False,
            sound_parts=bool(sound),
            sampling_rate=options.sampling_rate,
            fetch=self.fetch,
        )

    def _call_kwargs(self, nested: Mapping[str, Any] | None, flat: Mapping[str, Any]) -> dict[str, Any]:
        """The keywords of `__call__`, from `processor_kwargs` and from among the others."""
        merged = flattened(nested or {})
        twice = [name for name in flat if name in merged]
        if twice:
            raise UsageError(f"{twice[0]} was passed twice: in processor_kwargs and as a keyword.")
        return {**merged, **flat}

    def _media_alone(self, given: Mapping[str, Any], options: CallOptions) -> BatchFeature:
        """The media tensors of a call without text."""
        parts = zip(PARTS, given.values(), strict=True)
        media = [item for name, one in parts if one is not None for item in getattr(self, name).media(one, options)]
        batch = self.media_batch(media, options)
        return as_arrays(batch) if options.return_tensors == "np" else batch

    def _batch(
        self, inputs: Sequence[PromptInput], options: CallOptions, protocol: str | Protocol | None
    ) -> BatchFeature:
        chosen = named_protocol(protocol or self.config.protocol)
        worker = self._with_image_settings(dict(options.image_settings))
        prompts: list[TokenisedPrompt] = []
        media: list[Any] = []
        for one in inputs:
            prepared = [worker.media_inputs(item, chosen) for item in one.media]
            receipts = [receipt for _, receipt in prepared]
            self._warn_of_losses(receipts)
            prompt = self.tokenise(one.messages, receipts) if one.text is None else self._tokenise(one.text, receipts)
            prompts.append(self._truncated(prompt, options))
            media += [tensors for tensors, _ in prepared]
        return self._collated(prompts, media, options)

    def _warn_of_losses(self, receipts: Sequence[MediaReceipt]) -> None:
        for loss in (message for receipt in receipts for message in receipt.loss_messages):
            logger.warning("%s", loss)

    def _tokenise(self, text: RenderedText, receipts: Sequence[MediaReceipt]) -> TokenisedPrompt:
        self.check_length(len(text))
        pieces = slots_of_kinds(text.pieces, [receipt.modality for receipt in receipts])
        if any(getattr(piece, "generated", False) for piece in pieces):
            ids, generated = tokenise_marked(pieces, self.tokenizer, text.template)
        else:
            ids, generated = tokenise_pieces(pieces, self.tokenizer, text.template), []
        prompt = SlotPrompt(tuple(ids), generated=tuple(generated))
        return prompt.expand([receipt.tokens for receipt in receipts], self.config.placeholder_ids)

    def _truncated(self, prompt: TokenisedPrompt, options: CallOptions) -> TokenisedPrompt:
        """The prompt cut to `max_length`, on the tokenizer's side."""
        limit = options.max_length or self.config.max_positions
        ids = prompt.input_ids
        if not options.truncates or len(ids) <= limit:
            return prompt
        keep = slice(len(ids) - limit, None) if self.tokenizer.truncation_side == "left" else slice(limit)
        kept = range(len(ids))[keep]
        if any(span.start < kept.start or span.start + span.length > kept.stop for span in prompt.spans):
            raise ContextOverflow(
                f"the prompt has {len(ids):,} tokens; truncation to max_length={limit:,} would cut its media. Raise "
                "max_length, or use fewer frames."
            )
        spans = tuple(type(s)(s.modality, s.start - kept.start, s.length) for s in prompt.spans)
        return TokenisedPrompt(ids[keep], spans, prompt.notes, prompt.generated[keep])

    def _collated(self, prompts: Sequence[TokenisedPrompt], media: Sequence[Any], options: CallOptions) -> BatchFeature:
        longest = max(len(prompt.input_ids) for prompt in prompts)
        width = options.width(longest) if options.pads else longest
        if options.return_tensors and not options.pads and any(len(p.input_ids) != longest for p in prompts):
            raise UsageError("padding=False, but the prompts differ in length; expected padding=True for tensors.")
        batch = self.collate(prompts, media, options.padding_side or self._padding_side(), width=width)
        if options.return_mm_token_type_ids:
            batch["mm_token_type_ids"] = torch.tensor(self.create_mm_token_type_ids(batch["input_ids"]))
        if options.return_tensors is not None:
            return batch if options.return_tensors == "pt" else as_arrays(batch)
        own = batch["attention_mask"].bool()
        for name in ("input_ids", "attention_mask", "assistant_masks", "mm_token_type_ids"):
            if name in batch:
                rows = zip(batch[name], own, strict=True)
                batch[name] = [(row if options.pads else row[mine]).tolist() for row, mine in rows]
        return batch

    def _padding_side(self) -> str:
        """That of the tokenizer if somebody set it; tokenizers' own default, right, would break `generate`."""
        side: str = self.tokenizer.padding_side
        return "left" if side == self._found_padding_side else side

    def _with_image_settings(self, changes: Mapping[str, Any]) -> "TransformersCalls":
        """This processor, with changes to its image settings for one call."""
        if not changes:
            return self
        worker = copy.copy(self)
        worker.pixels = self._change_pixels(changes)
        return worker

    # ── the rest of the interface ──────────────────────────────────────────────────────────────────────────────

    def decode(self, *args: Any, **kwargs: Any) -> Any:
        """Token ids as text, without control tokens."""
        return self.tokenizer.decode(*args, **{"skip_special_tokens": True, **kwargs})

    def post_process_image_text_to_text(
        self, generated_outputs: Any, skip_special_tokens: bool = True, **kwargs: Any
    ) -> list[str]:
        """The text of each row of ids."""
        texts: list[str] = self.tokenizer.batch_decode(
            generated_outputs, skip_special_tokens=skip_special_tokens, **kwargs
        )
        return texts


def as_arrays(batch: BatchFeature) -> BatchFeature:
    """The batch with NumPy arrays in place of tensors; bfloat16, which NumPy lacks, as float32."""

    def array(value: Any) -> Any:
        if isinstance(value, list):  # videos of different lengths
            return [array(one) for one in value]
        return (value.float() if value.dtype == torch.bfloat16 else value).numpy()

    return BatchFeature({name: array(value) for name, value in batch.items()})
