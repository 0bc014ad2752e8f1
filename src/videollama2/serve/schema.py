"""What the API takes and gives, as the OpenAPI document has it. A field that is not here is refused by its name."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Protocol = Literal["released", "full", "paper"]
Text = Annotated[str, Field(max_length=4_000_000)]
StopText = Annotated[str, Field(min_length=1, max_length=200)]


class _Asked(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class TextPart(_Asked):
    """Words."""

    type: Literal["text"]
    text: Text


class Url(_Asked):
    """`data:TYPE;base64,DATA`, or where the server allows it, a web address."""

    url: str


class ImageUrl(Url):
    """As `Url`."""

    detail: Literal["auto"] | None = None


class Sound(_Asked):
    """A sound as base64."""

    data: str
    format: str


class FileOf(_Asked):
    """An uploaded file, or a data URL."""

    file_id: str | None = None
    file_data: str | None = None
    filename: str | None = None


class _Ranged(_Asked):
    start: float | None = Field(None, ge=0, description="seconds; the part of the medium that is used")
    end: float | None = Field(None, gt=0)


class _Seen(_Ranged):
    num_frames: int | None = Field(None, ge=1, description="frames to sample; default: the model's own number")
    sound: bool | None = Field(None, description="false: do not listen to it")


class VideoPart(_Seen):
    """A video, with its sound unless told otherwise."""

    type: Literal["video_url"]
    video_url: Url


class ImagePart(_Seen):
    """A picture."""

    type: Literal["image_url"]
    image_url: ImageUrl


class AudioUrlPart(_Ranged):
    """A sound."""

    type: Literal["audio_url"]
    audio_url: Url


class InputAudioPart(_Ranged):
    """A sound."""

    type: Literal["input_audio"]
    input_audio: Sound


class FilePart(_Seen):
    """A video, a picture or a sound; its content says which."""

    type: Literal["file"]
    file: FileOf


MediaPart = VideoPart | ImagePart | AudioUrlPart | InputAudioPart | FilePart
Part = Annotated[TextPart | MediaPart, Field(discriminator="type")]


class SystemMessage(_Asked):
    """Replaces the model's own system prompt."""

    role: Literal["system", "developer"]
    content: Text | list[TextPart]


class UserMessage(_Asked):
    """Words and media, in the order in which the model gets them."""

    role: Literal["user"]
    content: Text | Annotated[list[Part], Field(min_length=1, max_length=256)]


class AssistantMessage(_Asked):
    """What was answered before."""

    role: Literal["assistant"]
    content: Text | list[TextPart]


Message = Annotated[SystemMessage | UserMessage | AssistantMessage, Field(discriminator="role")]


class StreamOptions(_Asked):
    """Of a stream."""

    include_usage: bool = False


class ChatRequest(_Asked):
    """OpenAI's parameters as far as they mean something here, and `protocol`, `strict`, `timeout` of our own."""

    model: str = Field(max_length=500)
    messages: list[Message] = Field(min_length=1, max_length=1000)
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_tokens: int | None = Field(None, ge=1)
    max_completion_tokens: int | None = Field(None, ge=1)
    temperature: float | None = Field(None, ge=0, le=2, description="default: 0, the likeliest token always")
    top_p: float | None = Field(None, gt=0, le=1)
    seed: int | None = Field(None, ge=0, lt=2**63)
    stop: StopText | Annotated[list[StopText], Field(max_length=4)] | None = None
    n: Literal[1] | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = Field(None, ge=0, le=20)
    protocol: Protocol | None = Field(None, description="how media are prepared; default: the model's own")
    strict: bool | None = Field(None, description="what was asked for and would not be used is an error")
    timeout: float | None = Field(None, gt=0, description="seconds; never more than the server allows")


class _Given(BaseModel):
    model_config = ConfigDict(extra="allow")


class Model(_Given):
    """A model."""

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: str = "videollama2"
    sees: bool
    hears: bool
    protocol: str
    context: int


class ModelList(_Given):
    """All models: one."""

    object: Literal["list"] = "list"
    data: list[Model]


class File(_Given):
    """An uploaded file."""

    id: str
    object: Literal["file"] = "file"
    bytes: int
    created_at: int
    expires_at: int
    filename: str
    purpose: str
    status: Literal["processed"] = "processed"


class FileList(_Given):
    """Files, the newest first."""

    object: Literal["list"] = "list"
    data: list[File]
    has_more: bool = False
    first_id: str | None = None
    last_id: str | None = None


class Deleted(_Given):
    """A file is gone."""

    id: str
    object: Literal["file"] = "file"
    deleted: Literal[True] = True


class PromptDetails(_Given):
    """Positions of the prompt by what stands in them."""

    text_tokens: int
    image_tokens: int
    video_tokens: int
    audio_tokens: int
    cached_tokens: int = 0


class Usage(_Given):
    """Positions of the prompt, and tokens of the answer, its end included."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptDetails


class Said(_Given):
    """The answer."""

    role: Literal["assistant"] = "assistant"
    content: str


class Choice(_Given):
    """The answer and why it ended."""

    index: Literal[0] = 0
    message: Said
    finish_reason: Literal["stop", "length"]
    logprobs: dict[str, Any] | None = None


class Completion(_Given):
    """An answer; `receipt` says what was seen and heard, `timings` how many seconds went where."""

    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int
    model: str
    choices: list[Choice]
    usage: Usage
    receipt: dict[str, Any]
    timings: dict[str, float]


class ErrorOf(_Given):
    """What is wrong."""

    message: str
    type: str
    param: str | None = None
    code: str | None = None


class ErrorBody(_Given):
    """An error."""

    error: ErrorOf


class Health(_Given):
    """How the server is."""

    status: Literal["ok", "stopping", "broken"]
