"""Serves the tiny model on a free port of this machine and runs a client's script against it.

python -m tests.ecosystem.clients.serve -- python tests/ecosystem/clients/openai_client.py
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import videollama2
from videollama2.serve.app import create_app
from videollama2.serve.running import in_thread
from videollama2.serve.settings import ServeSettings

from ... import tiny


def main(command: list[str]) -> int:
    """The exit code of the command, which finds the server in URL and its media in MEDIA."""
    with tempfile.TemporaryDirectory() as folder:
        engine = videollama2.load(tiny.save(Path(folder) / "tiny"), device="cpu", dtype="float32")
        tiny.write_clip(Path(folder) / "clip.mp4")
        tiny.write_wave(Path(folder) / "tone.wav", tiny.tone(1.0))
        settings = ServeSettings(shutdown_seconds=5)
        with in_thread(create_app(engine, settings), settings) as (url, _):
            return subprocess.run(
                command, env={**os.environ, "URL": f"{url}/v1", "URL_": f"{url}/v1", "MEDIA": folder}
            ).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[sys.argv.index("--") + 1 :]))
