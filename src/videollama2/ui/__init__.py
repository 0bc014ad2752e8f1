"""The page: ask about a clip in a browser, and see what every answer was made of.

    page.html, page.css    what is shown                words.js     every word it says, and every error explained
    page.js                which clip, which question   clip.js      pictures and loudness of a clip, in the browser
    chat.js, receipt.js    answers and their receipts   trim.js      the range        recorder.js  camera, microphone
    api.js                 the HTTP API, and nothing else                             dom.js       text, never HTML
    example.mp4            the clip of examples/, compressed more

No build step, nothing from elsewhere. The page may only load its own files and only talk to its own server; the headers
say so, and browsers hold it to that.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from importlib.resources import files
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fastapi import FastAPI

_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".mp4": "video/mp4",
}

# Scripts and styles are files of ours; pictures and clips are the user's own, by blob URLs. With trusted types there is
# no way from a string to HTML, whatever a file name, an answer or an error says.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; media-src 'self' blob:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "Referrer-Policy": "no-referrer",
    "Permissions-Policy": "camera=(self), microphone=(self)",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-cache",
}


@dataclass(frozen=True)
class PageFile:
    """A file of the page: its path on the server, what it is, and its bytes."""

    path: str
    type: str
    content: bytes


def page_files() -> Iterator[PageFile]:
    """Every file of the page; the same for everybody, and without anything that is secret."""
    for found in sorted(files(__name__).iterdir(), key=lambda each: each.name):
        suffix = found.name[found.name.rfind(".") :]
        if suffix in _TYPES:
            path = "/" if found.name == "page.html" else f"/ui/{found.name}"
            yield PageFile(path, _TYPES[suffix], found.read_bytes())


def add_page(app: "FastAPI") -> None:
    """Serve the page at `/` of a server, and its files below `/ui/`."""
    from fastapi import Response

    def serve(file: PageFile) -> None:
        def send() -> Response:
            return Response(file.content, media_type=file.type, headers=HEADERS)

        app.add_api_route(file.path, send, methods=["GET", "HEAD"], include_in_schema=False, name=file.path)

    for file in page_files():
        serve(file)
