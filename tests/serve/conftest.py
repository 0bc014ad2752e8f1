"""A server with the tiny model, over real HTTP."""

from collections.abc import Iterator
from typing import Any

import pytest

from videollama2.engine import Engine
from videollama2.serve.app import create_app
from videollama2.serve.running import in_thread
from videollama2.serve.settings import ServeSettings


@pytest.fixture(scope="session")
def app(engine: Engine) -> Any:
    return create_app(engine, ServeSettings(shutdown_seconds=5))


@pytest.fixture(scope="session")
def url(app: Any) -> Iterator[str]:
    with in_thread(app, ServeSettings(shutdown_seconds=5)) as (url, _):
        yield url


@pytest.fixture(scope="session")
def client(url: str) -> Any:
    import openai

    return openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0)
