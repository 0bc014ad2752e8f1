"""Errors as the API reports them: a status, and {"error": {message, type, param, code}} in OpenAI's format.

VideoLlama2Error, or any exception ── api_error ──────► ApiError ──► response, or event of a stream
pydantic's list of errors          ── validation_error ──►
every message                      ── public_message ──► no path, memory address or stack trace of this machine
"""

import re
from collections.abc import Sequence
from typing import Any

from .. import errors
from ..errors import VideoLlama2Error

_STATUS: tuple[tuple[type[VideoLlama2Error], int], ...] = (
    (errors.MediaTooLarge, 413),
    (errors.MediaNotFound, 404),
    (errors.MediaError, 400),
    (errors.PromptError, 400),
    (errors.UsageError, 400),
    (errors.WorkerError, 503),
    (errors.StorageError, 507),
)
_TYPES = {401: "authentication_error", 403: "permission_error", 404: "not_found_error", 429: "rate_limit_error"}

_MAX_MESSAGE = 600  # characters
_MEMORY_ADDRESS = re.compile(r"\b0x[0-9a-fA-F]{4,}\b|\b[0-9a-fA-F]{12,16}\b(?=[>\]])")
_OBJECT = re.compile(r"<[\w.]+ (?:object )?at [^>]*>")
# absolute paths of two or more parts, but not the server's own routes
_PATH = re.compile(
    r"(?<![\w.:/<])(?:file:)?(?:/(?!v1/)[\w.+@~%-]+){2,}/?|\b[A-Za-z]:\\[^\s'\",;)]*|\\\\[\w.$-]+\\[^\s'\",;)]*"
)
_TRACEBACK = re.compile(r"Traceback \(most recent call last\).*", re.DOTALL)
_LENGTH_ERRORS = ("too_long", "too_short")  # the value is a list, so don't report that it is not a string


class ApiError(VideoLlama2Error):
    """An error response.

    Attributes:
        status: HTTP status.
        code: one word, for programs to match.
        param: name of the invalid parameter.
        retry_after: seconds.
    """

    def __init__(
        self, status: int, code: str, message: str, *, param: str | None = None, retry_after: int | None = None
    ) -> None:
        super().__init__(message)
        self.status, self.code, self.param, self.retry_after = status, code, param, retry_after

    @property
    def headers(self) -> dict[str, str]:
        """Headers of the response."""
        headers = {} if self.retry_after is None else {"Retry-After": str(self.retry_after)}
        return headers | ({"WWW-Authenticate": 'Bearer, Basic realm="videollama2"'} if self.status == 401 else {})

    def body(self) -> dict[str, Any]:
        """Body of the response, or of an event of a stream."""
        kind = _TYPES.get(self.status, "invalid_request_error" if self.status < 500 else "server_error")
        return {"error": {"message": str(self), "type": kind, "param": self.param, "code": self.code}}


def api_error(error: BaseException, request_id: str = "") -> ApiError:
    """The error response for an exception: our own errors by message, any other as an internal error with an id."""
    if isinstance(error, ApiError):
        return error
    if isinstance(error, errors.NumericsError):
        return ApiError(500, "numerics_error", "the model computed NaN or infinity; please tell the server's operator")
    for kind, status in _STATUS:
        if isinstance(error, kind):
            words = " ".join([str(error), *getattr(error, "__notes__", ())])
            name = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", type(error).__name__).lower()
            return ApiError(status, name, public_message(words), retry_after=10 if status == 503 else None)
    if type(error).__name__ == "OutOfMemoryError" or isinstance(error, MemoryError):
        return ApiError(503, "out_of_memory", "not enough memory for this request; try again later", retry_after=10)
    found = f" (request {request_id})" if request_id else ""
    return ApiError(500, "internal_error", f"internal error; the server's log has the details{found}")


def public_message(message: str) -> str:
    """The message on one line, without memory addresses, paths of this machine or stack traces."""
    text = _TRACEBACK.sub("…", message)
    text = _PATH.sub("…", _MEMORY_ADDRESS.sub("…", _OBJECT.sub("an object", text)))
    text = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return text if len(text) <= _MAX_MESSAGE else text[: _MAX_MESSAGE - 1] + "…"


def validation_error(found: Sequence[Any]) -> ApiError:
    """The error response for an invalid body. It names the field, never its content; of several errors, the deepest."""
    worst = max(found, key=lambda error: (len(error["loc"]), error["type"] in ("extra_forbidden", *_LENGTH_ERRORS)))
    name = field_name(worst["loc"])
    kind = worst["type"]
    if name is None and (kind == "missing" or kind.endswith("attributes_type")):
        words = "the body is not a JSON object; expected one, with Content-Type: application/json"
        return ApiError(400, "invalid_json", words)
    if kind == "extra_forbidden":
        return ApiError(400, "unsupported_parameter", f"{name} is not supported by this server", param=name)
    if kind == "unsupported_value":
        return ApiError(
            400, "unsupported_parameter", f"{name} is not supported by this server; {worst['msg']}", param=name
        )
    if kind == "missing":
        return ApiError(400, "missing_parameter", f"{name} is missing", param=name)
    if kind == "json_invalid":
        return ApiError(400, "invalid_json", "the body is not valid JSON")
    if kind == "value_error":  # pydantic's message names a Python class
        return ApiError(400, "invalid_value", f"{name} is not a file; expected a part with a filename", param=name)
    words = worst["msg"][:200].replace("Input should", "it should")
    return ApiError(400, "invalid_value", f"invalid value for {name or 'the body'}: {words}", param=name)


def field_name(loc: Sequence[int | str]) -> str | None:
    """A field as messages.0.content; drops the names of union members, which pydantic adds and no request has."""
    parts = []
    for before, part in zip((None, *loc), loc, strict=False):
        of_union = isinstance(before, int) or str(part).startswith(("list[", "function-", "constrained-str"))
        if isinstance(part, int) or not (of_union or (before is None and part in ("body", "query", "path"))):
            parts.append(str(part) if isinstance(part, int) else ascii(part)[1:-1][:60])
    return ".".join(parts) or None
