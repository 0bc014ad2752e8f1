"""Subtitles, in and out: SRT and WebVTT files read and written by pysubs2 (extra `subtitles`).

lines = read_subtitles(Path("clip.srt"))            # milliseconds and text
said = picked(lines, frame_times, published=False)  # what stands there at some moments
write_subtitles(Path("clip.vtt"), captions)
"""

from .choosing import between, picked, quoted
from .lines import Line
from .reading import read_subtitles
from .writing import FORMATS, render, write_subtitles

__all__ = ["FORMATS", "Line", "between", "picked", "quoted", "read_subtitles", "render", "write_subtitles"]
