"""openai for Python: text, a clip, sound, a stream, a schema, and its own answer sent back."""

import base64
import json
import os
from pathlib import Path

import openai
from pydantic import BaseModel, Field


class Sound(BaseModel):
    loud: bool
    count: int = Field(ge=0, le=9)


client = openai.OpenAI(base_url=os.environ["URL"], api_key="none")
media = Path(os.environ["MEDIA"])
clip = client.files.create(file=media / "clip.mp4", purpose="user_data")
wave = base64.b64encode((media / "tone.wav").read_bytes()).decode()
parts = [
    {"type": "file", "file": {"file_id": clip.id}},
    {"type": "input_audio", "input_audio": {"data": wave, "format": "wav"}},
    {"type": "text", "text": "What do you see and hear?"},
]
messages = [{"role": "developer", "content": "Be brief."}, {"role": "user", "content": parts, "name": "ann"}]
first = client.chat.completions.create(
    model="default", messages=messages, max_completion_tokens=8, user="ann", frequency_penalty=0, presence_penalty=0,
    tools=openai.omit, n=1, store=False, metadata={"a": "b"}, response_format={"type": "text"}, logprobs=True,
)  # fmt: skip
assert first.receipt["audio"]["state"] == "used" and first.choices[0].logprobs.content[0].bytes
again = [*messages, first.choices[0].message, {"role": "user", "content": "And then?"}]
with client.chat.completions.stream(model="default", messages=again, max_tokens=8) as stream:
    text = "".join(event.delta for event in stream if event.type == "content.delta")
assert stream.current_completion_snapshot.choices[0].message.content == text
parsed = client.chat.completions.parse(model="default", messages=messages, response_format=Sound, max_tokens=40)
assert isinstance(parsed.choices[0].message.parsed, Sound)
chunks = client.chat.completions.create(
    model="default", messages=messages, stream=True, stream_options={"include_usage": True}, max_tokens=40,
    response_format={"type": "json_schema", "json_schema": {"name": "s", "schema": Sound.model_json_schema()}},
)  # fmt: skip
seen = list(chunks)
assert set(json.loads("".join(c.choices[0].delta.content or "" for c in seen if c.choices))) == {"loud", "count"}
assert seen[-1].usage.total_tokens
print("openai", openai.__version__)
