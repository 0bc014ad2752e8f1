"""Long and live: windows that slide over a clip, captions of many files, and streams of which the last seconds count.

watch(engine, "lecture.mp4", "What happens?", window=30)      # an answer per window, and a summary (windows.py)
stream = Stream(engine, seconds=10); stream.ask("What happens now?")                              # (stream.py)
"""

from .stream import Stream
from .subtitled import ask_with_subtitles
from .windows import Watched, Window, watch

__all__ = ["Stream", "Watched", "Window", "ask_with_subtitles", "watch"]
