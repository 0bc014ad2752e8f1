"""The web page: ask about a clip in a browser, and see what each answer is based on.

    page.html, page.css    layout                       words.js     texts, and explanations of errors
    page.js                clip, settings, question     clip.js      frames and loudness of a clip, in the browser
    chat.js, receipt.js    answers and receipts         trim.js      part of the clip   recorder.js  camera, microphone
    api.js                 client of the HTTP API       dom.js       elements from text, never from HTML
    example.mp4            the clip of examples/, compressed more

No build step and no external resources. The headers restrict the page to its own files and its own server, and browsers
enforce that.
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

# Scripts and styles are our own files; images and clips are the user's, as blob URLs. Trusted types rule out any way
# from a string to HTML, whatever a file name, an answer or an error contains.
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
    """A file of the page: path on the server, content type, bytes."""

    path: str
    type: str
    content: bytes


def page_files() -> Iterator[PageFile]:
    """All files of the page; they are the same for everyone and hold no secrets."""
    for found in sorted(files(__name__).iterdir(), key=lambda each: each.name):
        suffix = found.name[found.name.rfind(".") :]
        if suffix in _TYPES:
            path = "/" if found.name == "page.html" else f"/ui/{found.name}"
            yield PageFile(path, _TYPES[suffix], found.read_bytes())


def add_page(app: "FastAPI") -> None:
    """Serve the page at `/` and its files under `/ui/`."""
    from fastapi import Response

    def serve(file: PageFile) -> None:
        def send() -> Response:
            return Response(file.content, media_type=file.type, headers=HEADERS)

        app.add_api_route(file.path, send, methods=["GET", "HEAD"], include_in_schema=False, name=file.path)

    for file in page_files():
        serve(file)
