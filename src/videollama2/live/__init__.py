"""Long clips and live streams: windows over a clip, captions for many files, and a buffer of a stream's last seconds.

watch(engine, "lecture.mp4", "What happens?", window=30)      # an answer per window, and a summary (windows.py)
when(engine, "lecture.mp4", "a bell rings")                    # spans with scores (events.py)
stream = LiveStream(engine, seconds=10); stream.ask("What happens now?")                          # (stream.py)
"""

from .events import WhenResult, when
from .stream import LiveStream
from .subtitle_prompts import ask_with_subtitles
from .windows import WatchResult, Window, watch

__all__ = ["LiveStream", "WatchResult", "WhenResult", "Window", "ask_with_subtitles", "watch", "when"]
