"""LiteLLM: text, a clip, a stream, a schema, and its own answer sent back."""

import base64
import json
import os
from importlib.metadata import version
from pathlib import Path

import litellm
from pydantic import BaseModel


class Sound(BaseModel):
    loud: bool


media = Path(os.environ["MEDIA"])
clip = "data:video/mp4;base64," + base64.b64encode((media / "clip.mp4").read_bytes()).decode()
messages = [
    {"role": "system", "content": "Be brief."},
    {
        "role": "user",
        "content": [
            {"type": "video_url", "video_url": {"url": clip}},
            {"type": "text", "text": "What do you see and hear?"},
        ],
    },
]
for provider in ("openai", "hosted_vllm"):
    settings = {"model": f"{provider}/default", "api_base": os.environ["URL"], "api_key": "none", "max_tokens": 40}
    first = litellm.completion(messages=messages, user="ann", frequency_penalty=0, n=1, **settings)
    assert first.choices[0].finish_reason in ("stop", "length") and first.usage.total_tokens
    again = [*messages, first.choices[0].message.model_dump(), {"role": "user", "content": "And then?"}]
    chunks = list(litellm.completion(messages=again, stream=True, stream_options={"include_usage": True}, **settings))
    assert any(chunk.choices[0].delta.content for chunk in chunks)
    chosen = litellm.completion(messages=messages, response_format=Sound, **settings)
    assert set(json.loads(chosen.choices[0].message.content)) == {"loud"}
    try:
        litellm.completion(messages=messages, logit_bias={"5": 1}, **settings)
    except litellm.BadRequestError as error:
        assert "logit_bias" in str(error)
    else:
        raise AssertionError("a parameter without effect was accepted")
print("litellm", version("litellm"))
