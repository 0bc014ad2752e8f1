"""Errors as the API says them: a status, and {"error": {message, type, param, code}} as OpenAI's clients read it."""

import re
from typing import Any

from .. import errors
from ..errors import VideoLlama2Error
from .public import public

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


class Problem(VideoLlama2Error):
    """An error of the API.

    Attributes:
        status: of HTTP. code: one word. param: the parameter that is wrong. retry_after: seconds.
    """

    def __init__(
        self, status: int, code: str, message: str, *, param: str | None = None, retry_after: int | None = None
    ) -> None:
        super().__init__(message)
        self.status, self.code, self.param, self.retry_after = status, code, param, retry_after

    @property
    def headers(self) -> dict[str, str]:
        """Of the response."""
        headers = {} if self.retry_after is None else {"Retry-After": str(self.retry_after)}
        return headers | ({"WWW-Authenticate": 'Bearer, Basic realm="videollama2"'} if self.status == 401 else {})

    def body(self) -> dict[str, Any]:
        """Of the response, or of an event of a stream."""
        kind = _TYPES.get(self.status, "invalid_request_error" if self.status < 500 else "server_error")
        return {"error": {"message": str(self), "type": kind, "param": self.param, "code": self.code}}


def problem_of(error: BaseException, request_id: str = "") -> Problem:
    """What a request's error looks like from outside: our own words for our own errors, a number for all others."""
    if isinstance(error, Problem):
        return error
    if isinstance(error, errors.NumericsError):
        return Problem(500, "numerics_error", "the model's numbers were not finite; whoever runs the server can look")
    for kind, status in _STATUS:
        if isinstance(error, kind):
            words = " ".join([str(error), *getattr(error, "__notes__", ())])
            name = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", type(error).__name__).lower()
            return Problem(status, name, public(words), retry_after=10 if status == 503 else None)
    if type(error).__name__ == "OutOfMemoryError" or isinstance(error, MemoryError):
        return Problem(503, "out_of_memory", "there is no memory left for this request; try it later", retry_after=10)
    found = f" as {request_id}" if request_id else ""
    return Problem(500, "internal_error", f"something went wrong in the server; its log has it{found}")
