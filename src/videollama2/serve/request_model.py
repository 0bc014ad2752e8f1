"""What requests are made of: models that reject unknown fields by name, and parameters that may only be neutral."""

import json
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, GetCoreSchemaHandler, GetJsonSchemaHandler, model_validator
from pydantic_core import PydanticCustomError, core_schema

Text = Annotated[str, Field(max_length=4_000_000)]
Name = Annotated[str, Field(max_length=1000)]


def _allow_extra_nulls(schema: dict[str, Any]) -> None:
    schema["additionalProperties"] = {"type": "null"}


class RequestModel(BaseModel):
    """Unknown fields are rejected, unless they are null: clients send null for what they do not use."""

    model_config = ConfigDict(extra="forbid", strict=True, json_schema_extra=_allow_extra_nulls)

    @model_validator(mode="before")
    @classmethod
    def _drop_extra_nulls(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        known = {field.alias or name for name, field in cls.model_fields.items()}
        return {key: item for key, item in value.items() if item is not None or key in known}


class Neutral:
    """Marks a parameter that is not supported, so that it may only have a value that changes nothing."""

    def __init__(self, *values: Any) -> None:
        """Null is always allowed; `values` are, too."""
        self.values = values

    def check(self, value: Any) -> Any:
        """The value, if it changes nothing."""
        same_kind = [v for v in self.values if isinstance(v, bool) == isinstance(value, bool)]  # False equals 0
        if value is None or value in same_kind:
            return value
        expected = " or ".join([*map(json.dumps, self.values), "null"])
        raise PydanticCustomError("unsupported_value", "expected {expected}", {"expected": expected})

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:
        """For pydantic."""
        return core_schema.no_info_after_validator_function(self.check, handler(source))

    def __get_pydantic_json_schema__(
        self, schema: core_schema.CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        """For /openapi.json."""
        return {"enum": [*self.values, None]}
