"""Requests and responses of the API, as in /openapi.json. An unknown field of a request is rejected by name.

Default values that change nothing are accepted, as clients send them: null, penalties of 0, an empty list of tools.
"""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from pydantic_core import PydanticCustomError

from ..protocols import PROTOCOLS
from .request_model import Name, Neutral, RequestModel, Text
from .response_format import ResponseFormat


def _known_protocol(name: str) -> str:
    if name not in PROTOCOLS:
        raise PydanticCustomError("unknown_protocol", "Input should be one of {known}", {"known": ", ".join(PROTOCOLS)})
    return name


ProtocolName = Annotated[
    str,
    AfterValidator(_known_protocol),
    Field(json_schema_extra=lambda schema: schema.update(enum=list(PROTOCOLS))),
]
StopText = Annotated[str, Field(min_length=1, max_length=200)]


class TextPart(RequestModel):
    """Text."""

    type: Literal["text"]
    text: Text


class MediaUrl(RequestModel):
    """`data:TYPE;base64,DATA`, also with parameters after the type, or an http URL if the server allows it."""

    url: str


class ImageUrl(MediaUrl):
    """Like `MediaUrl`. `detail` has no effect: every image is prepared in the same way."""

    detail: Literal["auto", "low", "high"] | None = None


class AudioData(RequestModel):
    """Audio as base64, or as a data URL."""

    data: str
    format: str


class FileReference(RequestModel):
    """An uploaded file, or a data URL."""

    file_id: str | None = None
    file_data: str | None = None
    filename: str | None = None


class _TimedPart(RequestModel):
    start: float | None = Field(None, ge=0, description="seconds; use the media from here")
    end: float | None = Field(None, gt=0, description="seconds; use the media up to here")
    audio_track: int | str | None = Field(None, description="of several audio tracks: a number from 1, or a language")


class _VisualPart(_TimedPart):
    num_frames: int | None = Field(None, ge=1, description="frames to sample; default: the model's own number")
    sound: bool | None = Field(None, description="false: ignore its audio")
    video_track: int | str | None = Field(None, description="of several video tracks: a number from 1, or a language")


class VideoPart(_VisualPart):
    """A video, with its audio unless `sound` is false."""

    type: Literal["video_url"]
    video_url: MediaUrl


class ImagePart(_VisualPart):
    """An image."""

    type: Literal["image_url"]
    image_url: ImageUrl


class AudioUrlPart(_TimedPart):
    """Audio."""

    type: Literal["audio_url"]
    audio_url: MediaUrl


class InputAudioPart(_TimedPart):
    """Audio."""

    type: Literal["input_audio"]
    input_audio: AudioData


class FilePart(_VisualPart):
    """A video, image or audio file; its content decides which."""

    type: Literal["file"]
    file: FileReference


MediaPart = VideoPart | ImagePart | AudioUrlPart | InputAudioPart | FilePart
Part = Annotated[TextPart | MediaPart, Field(discriminator="type")]


class _Message(RequestModel):
    name: Name | None = Field(None, description="has no effect")


class SystemMessage(_Message):
    """Replaces the model's own system prompt."""

    role: Literal["system", "developer"]
    content: Text | list[TextPart]


class UserMessage(_Message):
    """Text and media, in the order in which the model gets them."""

    role: Literal["user"]
    content: Text | Annotated[list[Part], Field(min_length=1, max_length=256)]


class AssistantMessage(_Message):
    """An earlier answer; may be exactly as this server returned it."""

    role: Literal["assistant"]
    content: Text | list[TextPart] | None
    tool_calls: Annotated[Any, Neutral([])] = None
    annotations: Annotated[Any, Neutral([])] = None


Message = Annotated[SystemMessage | UserMessage | AssistantMessage, Field(discriminator="role")]


class StreamOptions(RequestModel):
    """Options of a stream."""

    include_usage: bool | None = None
    include_obfuscation: Annotated[Any, Neutral(False)] = None


class _WithoutEffect(RequestModel):
    """Parameters of OpenAI that clients send by default, with the values that change nothing here."""

    user: Name | None = None
    metadata: dict[str, Any] | None = None
    prompt_cache_key: Name | None = None
    prompt_cache_retention: Name | None = None
    safety_identifier: Name | None = None
    parallel_tool_calls: bool | None = None
    frequency_penalty: Annotated[Any, Neutral(0)] = None
    presence_penalty: Annotated[Any, Neutral(0)] = None
    logit_bias: Annotated[Any, Neutral({})] = None
    tools: Annotated[Any, Neutral([])] = None
    tool_choice: Annotated[Any, Neutral("none", "auto")] = None
    functions: Annotated[Any, Neutral([])] = None
    function_call: Annotated[Any, Neutral("none", "auto")] = None
    store: Annotated[Any, Neutral(False)] = None
    service_tier: Annotated[Any, Neutral("auto", "default")] = None
    modalities: Annotated[Any, Neutral(["text"])] = None
    reasoning_effort: Annotated[Any, Neutral("none")] = None
    verbosity: Annotated[Any, Neutral("medium")] = None


class ChatRequest(_WithoutEffect):
    """OpenAI's parameters, as far as they apply here, and our own `protocol`, `strict` and `timeout`."""

    model: str = Field(max_length=500)
    messages: list[Message] = Field(min_length=1, max_length=1000)
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_tokens: int | None = Field(None, ge=1)
    max_completion_tokens: int | None = Field(None, ge=1)
    temperature: float | None = Field(None, ge=0, le=2, description="default: 0, greedy decoding")
    top_p: float | None = Field(None, gt=0, le=1)
    seed: int | None = Field(None, ge=0, lt=2**63)
    stop: StopText | Annotated[list[StopText], Field(max_length=4)] | None = None
    n: Literal[1] | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = Field(None, ge=0, le=20)
    response_format: ResponseFormat | None = None
    protocol: ProtocolName | None = Field(None, description="media preprocessing; default: the model's own")
    strict: bool | None = Field(None, description="fail if any requested input would be dropped")
    timeout: float | None = Field(None, gt=0, description="seconds; can only lower the server's limit")


class _ResponseModel(BaseModel):
    model_config = ConfigDict(extra="allow")


class Model(_ResponseModel):
    """A model."""

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: str = "videollama2"
    sees: bool
    hears: bool
    protocol: str
    context: int


class ModelList(_ResponseModel):
    """The one model of this server."""

    object: Literal["list"] = "list"
    data: list[Model]


class File(_ResponseModel):
    """An uploaded file."""

    id: str
    object: Literal["file"] = "file"
    bytes: int
    created_at: int
    expires_at: int
    filename: str
    purpose: str
    status: Literal["processed"] = "processed"


class FileList(_ResponseModel):
    """Files, newest first by default."""

    object: Literal["list"] = "list"
    data: list[File]
    has_more: bool = False
    first_id: str | None = None
    last_id: str | None = None


class Deleted(_ResponseModel):
    """A file was deleted."""

    id: str
    object: Literal["file"] = "file"
    deleted: Literal[True] = True


class PromptDetails(_ResponseModel):
    """Prompt tokens by modality."""

    text_tokens: int
    image_tokens: int
    video_tokens: int
    audio_tokens: int
    cached_tokens: int = 0


class Usage(_ResponseModel):
    """Tokens of the prompt, and of the answer including its end token."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptDetails


class AnswerMessage(_ResponseModel):
    """The answer."""

    role: Literal["assistant"] = "assistant"
    content: str
    refusal: None = None


class Choice(_ResponseModel):
    """The answer and why it ended."""

    index: Literal[0] = 0
    message: AnswerMessage
    finish_reason: Literal["stop", "length"]
    logprobs: dict[str, Any] | None = None


class Completion(_ResponseModel):
    """An answer; `receipt` lists what was used of the media, `timings` the seconds per stage."""

    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int
    model: str
    choices: list[Choice]
    usage: Usage
    receipt: dict[str, Any]
    timings: dict[str, float]


class ErrorDetail(_ResponseModel):
    """What went wrong, and what to do."""

    message: str
    type: str
    param: str | None = None
    code: str | None = None


class ErrorBody(_ResponseModel):
    """The body of an error response."""

    error: ErrorDetail


class Health(_ResponseModel):
    """State of the server."""

    status: Literal["ok", "stopping", "broken"]
