"""Links with which a miner, who has no login, looks at the video of a submission of his own.

The miner signs the request for a link with his hotkey. The link holds a token, which is good for one
submission and for some minutes. Nothing is stored.
"""

import time
from datetime import UTC, datetime
from functools import lru_cache
from hashlib import scrypt, sha256
from uuid import UUID

from flask import Blueprint, g, url_for
from itsdangerous import BadSignature, URLSafeTimedSerializer
from pydantic import BaseModel
from spectree import Response as Answers

from app.errors import Conflict, Forbidden, NotFound, Unavailable
from app.fields import Timestamp
from app.pages import queries, sessions
from app.web.api import Problem, spec
from app.web.auth import require_miner

blueprint = Blueprint("video_links", __name__)

LINK_SECONDS = 900
_SALT = "kibotos video link"


class VideoLinkOut(BaseModel):
    """`path` follows the address of the backend. Who has it can look at the video until it expires."""

    path: str
    expires_at: Timestamp


@blueprint.post("/v1/submissions/<uuid:submission_uuid>/video-link")
@require_miner
@spec.validate(
    resp=Answers(HTTP_200=VideoLinkOut, HTTP_403=Problem, HTTP_404=Problem, HTTP_409=Problem),
    tags=["submissions"],
)
def make_link(submission_uuid: UUID) -> VideoLinkOut:
    """Return a link to a page that shows the video of a submission, for the hotkey that submitted it.

    The link is good for 15 minutes.
    """
    hotkey = queries.find_hotkey_of(submission_uuid)
    if hotkey is None:
        raise NotFound("There is no such submission; use the UUID that you got when you submitted the video.")
    # None: no signature is needed
    if g.miner_hotkey not in (None, hotkey):
        raise Forbidden("Only the hotkey that submitted the video can look at it; sign with that hotkey.")
    if why := queries.find_why_gone(submission_uuid):
        raise Conflict(f"This video {why}: nobody can look at it any more.")
    path = url_for("pages.video", uuid=submission_uuid, token=_sign(submission_uuid))
    return VideoLinkOut(path=path, expires_at=datetime.fromtimestamp(time.time() + LINK_SECONDS, UTC))


def check(uuid: UUID, token: str) -> None:
    """Raise Forbidden unless `token` is of a link to this submission that has not expired."""
    for serializer in _serializers():
        try:
            if serializer.loads(token, max_age=LINK_SECONDS) == uuid.hex:
                return
        except BadSignature:
            continue
    raise Forbidden(
        "This link has expired, or is of another submission; get a new one with "
        f"`kibotos miner status {uuid} --open`."
    )


def _sign(uuid: UUID) -> str:
    serializers = _serializers()
    if not serializers:
        raise Unavailable("The operator has not set ADMIN_TOKEN, with which links are signed; ask for it.")
    token = serializers[0].dumps(uuid.hex)
    return token if isinstance(token, str) else token.decode()


def _serializers() -> list[URLSafeTimedSerializer]:
    """One for each admin's token; the first one signs."""
    return [_serializer(token) for token in sessions.admin_tokens()]


@lru_cache(8)
def _serializer(token: str) -> URLSafeTimedSerializer:
    # Miners see what is signed with it. So it costs 50 ms to try whether a token is an admin's.
    key = scrypt(token.encode(), salt=_SALT.encode(), n=2**14, r=8, p=1, dklen=32)
    return URLSafeTimedSerializer(key, salt=_SALT, signer_kwargs={"digest_method": sha256})
