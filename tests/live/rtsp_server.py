"""An RTSP server that streams one second of audio in real time (16-bit, 16 kHz; RFC 2326 and 3551)."""

import socketserver
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from .. import tiny

SDP = (
    "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=test\r\nt=0 0\r\n"
    "m=audio 0 RTP/AVP 97\r\na=rtpmap:97 L16/16000/1\r\na=control:a\r\n"
)
BLOCK = 320  # samples of a packet: 20 ms


class _Handler(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        while lines := self._asked():
            verb, number = lines[0].split()[0], next(x.split(":")[1].strip() for x in lines if x.startswith("CSeq"))
            self.server.asked.append(verb)  # type: ignore[attr-defined]
            more, body = "", ""
            if verb == "OPTIONS":
                more = "Public: OPTIONS, DESCRIBE, SETUP, PLAY, TEARDOWN\r\n"
            elif verb == "DESCRIBE":
                more, body = f"Content-Type: application/sdp\r\nContent-Length: {len(SDP)}\r\n", SDP
            elif verb == "SETUP":
                more = "Transport: RTP/AVP/TCP;unicast;interleaved=0-1\r\nSession: 1\r\n"
            elif verb == "PLAY":
                more = "Session: 1\r\n"
            self.wfile.write(f"RTSP/1.0 200 OK\r\nCSeq: {number}\r\n{more}\r\n{body}".encode())
            if verb == "PLAY":
                self._play()
                return

    def _asked(self) -> list[str]:
        lines = []
        while line := self.rfile.readline().decode().strip():
            lines.append(line)
        return lines

    def _play(self) -> None:
        sound = np.round(tiny.tone(2.0) * 32767).astype(">i2")
        for i in range(0, len(sound), BLOCK):
            part = sound[i : i + BLOCK].tobytes()
            header = struct.pack(">BBHII", 0x80, 97, i // BLOCK, i, 7)
            try:
                self.wfile.write(b"$\0" + struct.pack(">H", len(header) + len(part)) + header + part)
            except OSError:
                return
            time.sleep(0.005)


@contextmanager
def serving() -> Iterator[tuple[str, list[str]]]:
    """Its address, and the methods of the requests it gets."""
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), _Handler) as server:
        server.daemon_threads, server.asked = True, []  # type: ignore[attr-defined]
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"rtsp://user:secret@127.0.0.1:{server.server_address[1]}/main", server.asked  # type: ignore[attr-defined]
        server.shutdown()
