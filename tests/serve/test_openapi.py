"""The OpenAPI document matches the server: schemathesis sends valid and invalid requests and checks the responses."""

import json
import warnings
from dataclasses import replace
from typing import Any

import httpx
import hypothesis
import pytest
from pydantic import ValidationError

from videollama2.protocols import FULL, PROTOCOLS
from videollama2.serve.schema import ChatRequest

with warnings.catch_warnings():  # of libraries that schemathesis brings
    warnings.simplefilter("ignore")
    import schemathesis
    from schemathesis.checks import not_a_server_error
    from schemathesis.specs.openapi.checks import (
        content_type_conformance,
        negative_data_rejection,
        response_schema_conformance,
        status_code_conformance,
        unsupported_method,
    )

CHECKS = [
    not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance,
    negative_data_rejection, unsupported_method,
]  # fmt: skip
PLACES = [
    ("GET", "/v1/models"), ("GET", "/v1/models/{model}"), ("GET", "/v1/files"), ("GET", "/v1/files/{file_id}"),
    ("DELETE", "/v1/files/{file_id}"), ("POST", "/v1/files"), ("POST", "/v1/chat/completions"), ("GET", "/health"),
    ("GET", "/ready"), ("GET", "/metrics"),
]  # fmt: skip


@pytest.fixture(scope="module")
def document(url: str) -> dict[str, Any]:
    found: dict[str, Any] = httpx.get(f"{url}/openapi.json").json()
    return found


def test_every_route_is_documented(document: dict[str, Any]) -> None:
    listed = {(method.upper(), path) for path, methods in document["paths"].items() for method in methods}
    assert listed == set(PLACES)


GOOD, BAD = schemathesis.GenerationMode.POSITIVE, schemathesis.GenerationMode.NEGATIVE
WRONG = [("POST", "/v1/chat/completions"), ("POST", "/v1/files"), ("GET", "/v1/files")]  # in the others nothing can be


@pytest.mark.parametrize(("mode", "place"), [*((GOOD, p) for p in PLACES), *((BAD, p) for p in WRONG)], ids=str)
def test_responses_match_the_document(url: str, document: dict[str, Any], mode: Any, place: tuple[str, str]) -> None:
    method, path = place
    schema = schemathesis.openapi.from_dict(document)
    schema.config.update(base_url=url)
    operation = schema[path][method]

    @hypothesis.given(case=operation.as_strategy(generation_mode=mode))
    @hypothesis.settings(
        max_examples=12, deadline=None, derandomize=True, database=None,
        suppress_health_check=list(hypothesis.HealthCheck),
    )  # fmt: skip
    def check(case: Any) -> None:
        case.call_and_validate(base_url=url, checks=CHECKS)

    check()


def test_it_lists_the_parameters(document: dict[str, Any]) -> None:
    asked = document["components"]["schemas"]["ChatRequest"]
    assert asked["additionalProperties"] == {"type": "null"} and {"model", "messages"} == set(asked["required"])
    assert {"temperature", "top_p", "seed", "stop", "logprobs", "stream", "protocol", "strict"} <= set(
        asked["properties"]
    )


def test_a_new_protocol_is_allowed_without_a_new_schema(monkeypatch: pytest.MonkeyPatch) -> None:
    named = {"model": "tiny", "messages": [{"role": "user", "content": "x"}], "protocol": "squared"}
    with pytest.raises(ValidationError, match="one of released, full, paper"):
        ChatRequest.model_validate(named)
    monkeypatch.setitem(PROTOCOLS, "squared", replace(FULL, name="squared", aspect="pad"))
    assert ChatRequest.model_validate(named).protocol == "squared"
    assert "squared" in json.dumps(ChatRequest.model_json_schema())
