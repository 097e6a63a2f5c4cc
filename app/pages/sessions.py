"""Admins in a browser: a signed cookie instead of a token in each request.

The key of the signature is made of the admin's token, so a session ends with its token. Nothing is stored.
The cookie holds who logged in, and a secret that each form sends back, so that no other site can forge one.
"""

import hmac
import secrets
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import wraps
from hashlib import sha256
from ipaddress import ip_address, ip_network
from typing import Any

import structlog
from flask import current_app, g, redirect, request, url_for
from itsdangerous import BadSignature, URLSafeTimedSerializer
from redis import RedisError
from werkzeug.wrappers import Response

from app.errors import Forbidden, TooManyRequests
from app.web.auth import find_token, is_open

log = structlog.get_logger(__name__)

COOKIE = "kibotos_admin"
SESSION_SECONDS = 12 * 3600
# wrong tokens from one address before it must wait
MOST_FAILURES = 10
LOCKED_SECONDS = 15 * 60


@dataclass(frozen=True)
class Session:
    """Who logged in, and what a form must send back."""

    name: str
    form_key: str


def log_in(token: str, name: str, response: Response) -> bool:
    """Put a new session's cookie on `response` if the token is an admin's; False if it is not.

    Raises TooManyRequests after MOST_FAILURES wrong tokens from one address. That is counted in Redis. While
    Redis is away nobody is locked out, as tokens are too long to be guessed.
    """
    failures = _count_failures(0)
    if failures >= MOST_FAILURES:
        raise TooManyRequests(
            f"There were {failures} wrong tokens from your address; "
            f"try again in {LOCKED_SECONDS // 60} minutes.",
            LOCKED_SECONDS,
        )
    number = find_token(token, admin_tokens())
    if number is None:
        _count_failures(1)
        log.warning("admin_login_failed", address=_address())
        return False
    session = Session(name, secrets.token_urlsafe(24))
    response.set_cookie(
        COOKIE,
        _serializer(number).dumps(asdict(session)),
        max_age=SESSION_SECONDS,
        path="/admin",
        # the proxy in front speaks TLS, and says so
        secure=request.headers.get("X-Forwarded-Proto", request.scheme) == "https",
        httponly=True,
        samesite="Strict",
    )
    log.info("admin_logged_in", name=name, token=number)
    return True


def log_out(response: Response) -> None:
    response.delete_cookie(COOKIE, path="/admin", httponly=True, samesite="Strict")


def find_session() -> Session | None:
    """The session that the request's cookie proves, or None."""
    cookie = request.cookies.get(COOKIE, "")
    for number in range(1, len(admin_tokens()) + 1):
        try:
            return Session(**_serializer(number).loads(cookie, max_age=SESSION_SECONDS))
        except (BadSignature, TypeError):
            continue
    return None


def require_session(view: Callable) -> Callable:
    """A decorator of views: leads to the login without a session; a form needs the session's form key too."""

    @wraps(view)
    def guarded(*args: Any, **kwargs: Any) -> Any:
        session = find_session()
        if session is None:
            return redirect(url_for("admin.log_in", next=request.path), 303)
        if request.method == "POST" and not hmac.compare_digest(
            request.form.get("form_key", "").encode(), session.form_key.encode()
        ):
            raise Forbidden("This form is not of your session; load the page again and send it once more.")
        g.admin = session
        return view(*args, **kwargs)

    return guarded


def admin_tokens() -> tuple[str, ...]:
    """The admins' tokens. Where none is needed, in development, an empty one does."""
    tokens = current_app.extensions["settings"].admin_token
    return tokens or (("",) if is_open() else ())


def _serializer(number: int) -> URLSafeTimedSerializer:
    key = sha256(b"kibotos admin session\n" + admin_tokens()[number - 1].encode()).digest()
    return URLSafeTimedSerializer(key, salt=COOKIE, signer_kwargs={"digest_method": sha256})


def _address() -> str:
    """The caller's address: what the proxy in front appended, so that nobody else is locked out with him.

    A proxy calls from a private address. Whoever calls from another one could write there what he likes. Of
    an IPv6 address the first half counts, since whoever has one has all with that half.
    """
    forwarded = request.headers.get("X-Forwarded-For", "").rpartition(",")[2].strip()
    try:
        # without one, over a socket on this machine
        peer = ip_address(request.remote_addr or "127.0.0.1")
        address = ip_address(forwarded) if forwarded and peer.is_private else peer
    except ValueError:
        return request.remote_addr or ""
    return str(ip_network((address, 64), strict=False) if address.version == 6 else address)


def _count_failures(more: int) -> int:
    """Add to the failures of the caller's address and return how many there were lately."""
    redis, key = current_app.extensions["redis"], f"kibotos:admin-login:{_address()}"
    try:
        if not more:
            return int(redis.get(key) or 0)
        with redis.pipeline() as pipeline:
            pipeline.incrby(key, more).expire(key, LOCKED_SECONDS)
            return pipeline.execute()[0]
    except RedisError:
        log.warning("admin_login_not_counted")
        return 0
