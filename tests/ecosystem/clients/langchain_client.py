"""langchain-openai: text, an image, sound, a stream, a batch, a schema, and its own answer sent back."""

import base64
import os
from importlib.metadata import version
from pathlib import Path

from langchain_core.messages import HumanMessage, SystemMessage
from langchain_openai import ChatOpenAI
from pydantic import BaseModel


class Sound(BaseModel):
    loud: bool


media = Path(os.environ["MEDIA"])
wave = base64.b64encode((media / "tone.wav").read_bytes()).decode()
clip = "data:video/mp4;base64," + base64.b64encode((media / "clip.mp4").read_bytes()).decode()
model = ChatOpenAI(model="default", base_url=os.environ["URL"], api_key="none", max_tokens=40)
sound = HumanMessage(
    [{"type": "text", "text": "What do you hear?"}, {"type": "audio", "base64": wave, "mime_type": "audio/wav"}]
)
seen = HumanMessage(
    [{"type": "text", "text": "What do you see?"}, {"type": "video_url", "video_url": {"url": clip}}], name="ann"
)
first = model.invoke([SystemMessage("Be brief."), sound])
assert first.usage_metadata["total_tokens"]
assert any(chunk.text for chunk in model.stream([sound, first, seen]))
assert len(model.batch([[sound], [seen]])) == 2
assert isinstance(model.with_structured_output(Sound, method="json_schema").invoke([sound]), Sound)
print("langchain-openai", version("langchain-openai"))
