"""The console's own files: read at start, served by their exact names, nothing else from any disk.

They come out of the package, so what is in a browser is what was released. A policy forbids the
page whatever it does not need: other origins, inline code and styles, frames, forms.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from importlib.resources import files
from typing import TYPE_CHECKING, Final

from aiohttp import web

if TYPE_CHECKING:
    from collections.abc import Mapping
    from importlib.resources.abc import Traversable

TYPES: Final = {
    "css": "text/css; charset=utf-8",
    "html": "text/html; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
}
"""By the end of the name; a file of another kind is not served."""
INDEX: Final = "index.html"
HEADERS: Final = {
    "Content-Security-Policy": (
        "default-src 'self'; img-src 'self' data:; frame-ancestors 'none'; "
        "base-uri 'none'; form-action 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}
"""Of every answer of the console."""


@dataclass(frozen=True, slots=True)
class File:
    """One file."""

    content_type: str
    body: bytes
    etag: str


def load(folder: Traversable | None = None) -> dict[str, File]:
    """All files of the console by their names."""
    found = {}
    for entry in (files("node") / "console" if folder is None else folder).iterdir():
        kind = TYPES.get(entry.name.rpartition(".")[2])
        if kind is not None and entry.is_file():
            body = entry.read_bytes()
            found[entry.name] = File(kind, body, f'"{hashlib.sha256(body).hexdigest()[:32]}"')
    return found


def answer(found: Mapping[str, File], name: str, request: web.BaseRequest) -> web.Response:
    """The file of this name, 304 if the browser has it, or 404."""
    file = found.get(name or INDEX)
    if file is None:
        return web.Response(status=404, text="no such file\n", headers=HEADERS)
    headers = HEADERS | {"ETag": file.etag}
    asked = request.headers.get("If-None-Match", "")
    if asked.strip() == "*" or file.etag in [
        tag.strip().removeprefix("W/") for tag in asked.split(",")
    ]:
        return web.Response(status=304, headers=headers)
    return web.Response(body=file.body, headers=headers | {"Content-Type": file.content_type})
