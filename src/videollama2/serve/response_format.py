"""`response_format`: any text, a JSON object, or JSON of a schema."""

from typing import Annotated, Any, Literal

from pydantic import Field

from ..errors import MissingExtra, UsageError
from ..generation.structured import schema_text
from .errors import ApiError, public_message
from .request_model import Name, RequestModel, Text


class TextFormat(RequestModel):
    """Any text."""

    type: Literal["text"]


class JsonFormat(RequestModel):
    """A JSON object."""

    type: Literal["json_object"]


class JsonSchema(RequestModel):
    """A JSON schema. `strict` has no effect: the answer always follows the schema."""

    name: Name | None = None
    description: Text | None = None
    strict: bool | None = None
    schema_: dict[str, Any] | None = Field(None, alias="schema", description="default: any object")


class JsonSchemaFormat(RequestModel):
    """JSON of a schema."""

    type: Literal["json_schema"]
    json_schema: JsonSchema


ResponseFormat = Annotated[TextFormat | JsonFormat | JsonSchemaFormat, Field(discriminator="type")]


def requested_schema(requested: ResponseFormat | None) -> str | None:
    """The JSON schema that the answer must follow, as text; None: any text. May take a moment.

    Raises:
        ApiError: it is not valid or not supported.
    """
    if requested is None or isinstance(requested, TextFormat):
        return None
    given = requested.json_schema.schema_ if isinstance(requested, JsonSchemaFormat) else None
    try:
        return schema_text(given or {"type": "object"})
    except UsageError as error:
        raise ApiError(400, "invalid_value", public_message(str(error)), param="response_format") from error
    except MissingExtra:
        message = f"response_format {requested.type} is not available on this server: llguidance is not installed"
        raise ApiError(400, "unsupported_parameter", message, param="response_format") from None
