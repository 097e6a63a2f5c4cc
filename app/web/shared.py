"""Answers and pages that are the same for all who ask: their bytes are ready, plain and in gzip."""

import gzip
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from hashlib import sha256

from flask import Response, current_app, request

from app.web.api import Ready
from app.web.kept import Kept

# What many ask for and what may change at any time is this old at most, in every process.
SECONDS = 1.0
_GZIP_FROM_BYTES = 1000


@dataclass(frozen=True)
class Shared:
    body: bytes
    # None: too small to gain by it
    squeezed: bytes | None
    tag: str

    def __len__(self) -> int:
        return len(self.body) + len(self.squeezed or b"")

    @classmethod
    def of(cls, body: bytes) -> "Shared":
        # without a time stamp, so that equal answers of several processes are equal bytes
        squeezed = gzip.compress(body, compresslevel=6, mtime=0) if len(body) >= _GZIP_FROM_BYTES else None
        return cls(body, squeezed, sha256(body).hexdigest()[:20])


def keep(key: Hashable, seconds: float, write: Callable[[], bytes]) -> Shared:
    """Return the answer for `key`, at most `seconds` old; `write` is called for a new one."""
    return keeper().get(key, seconds, lambda: Shared.of(write()))


def keeper() -> Kept:
    return current_app.extensions["kept"]


def answer(
    shared: Shared, cache_control: str, mimetype: str = "application/json", status: int = 200
) -> Response:
    """Answer the request being served: in gzip if its caller takes it, and by 304 if they have it already."""
    headers = {"Cache-Control": cache_control}
    body, tag = shared.body, shared.tag
    if shared.squeezed:
        headers["Vary"] = "Accept-Encoding"
        if request.environ.get("HTTP_ACCEPT_ENCODING") and request.accept_encodings["gzip"]:
            headers["Content-Encoding"] = "gzip"
            # other bytes, so another tag
            body, tag = shared.squeezed, f"{shared.tag}-gzip"
    headers["ETag"] = f'"{tag}"'
    # a proxy that packs answers itself makes the tag a weak one: W/"…"
    if request.environ.get("HTTP_IF_NONE_MATCH") and request.if_none_match.contains_weak(tag):
        return Response(status=304, mimetype=mimetype, headers=headers)
    return Ready(body, status, mimetype=mimetype, headers=headers)
