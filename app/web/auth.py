"""Roles: who may call which endpoint, and how callers prove who they are."""

import hashlib
import hmac
import time
from collections.abc import Callable
from functools import wraps
from typing import Any
from urllib.parse import urlsplit

import structlog
from flask import current_app, g, request

from app.config import Settings, is_loopback
from app.db import autocommit
from app.errors import Forbidden, Unauthorized
from app.web import btauth
from app.web.queries import record_action, use_nonce

log = structlog.get_logger(__name__)

# Longer than a nonce is fresh, by more than the clocks of our machines may differ.
NONCE_MEMORY_SECONDS = 60

# What a client on this machine sends by itself: browsers, curl, HTTP libraries, Prometheus, our own. A proxy
# or a tunnel gives itself away by any other; there are too many of theirs to list.
_CLIENT_HEADERS = {
    "accept", "accept-charset", "accept-encoding", "accept-language", "authorization", "cache-control",
    "connection", "content-length", "content-type", "cookie", "dnt", "expect", "host", "if-match",
    "if-modified-since", "if-none-match", "keep-alive", "origin", "pragma", "priority", "range", "referer",
    "te", "upgrade-insecure-requests", "user-agent", "x-prometheus-scrape-timeout-seconds", "x-request-id",
    "x-requested-with",
}  # fmt: skip
_CLIENT_PREFIXES = ("sec-", "x-bittensor-")


def is_open() -> bool:
    """Whether the request needs no credentials: in development, if it comes straight from this machine.

    A proxy or tunnel on this machine is recognised by the headers that it adds, or by a Host that is not
    this machine's. The check of Host also stops web pages that rebind their name to 127.0.0.1.
    """
    if not current_app.extensions["settings"].development:
        return False
    return is_loopback(request.remote_addr or "") and is_loopback(_host()) and not _foreign_headers()


def _foreign_headers() -> list[str]:
    names = [name.lower() for name, _ in request.headers]
    return [name for name in names if name not in _CLIENT_HEADERS and not name.startswith(_CLIENT_PREFIXES)]


def _unauthorized(detail: str, challenge: str = "Bearer") -> Unauthorized:
    """A 401. If only the headers of the request keep it from passing in development, it says so."""
    if current_app.extensions["settings"].development and (foreign := _foreign_headers()):
        detail += (
            " Without credentials only requests straight from this machine pass; "
            f"the header {foreign[0][:40]} looks like a proxy's."
        )
    return Unauthorized(detail, challenge)


def _host() -> str:
    try:
        return urlsplit(f"//{request.host}").hostname or ""
    except ValueError:
        return ""


def find_token(given: str, tokens: tuple[str, ...]) -> int | None:
    """Return the number of `given` among `tokens`, from 1 on, or None.

    The time it takes does not reveal how much of a token is right.
    """
    # headers reach WSGI decoded as latin-1
    candidate = given.encode("latin-1", "replace")
    found = [hmac.compare_digest(candidate, token.encode()) for token in tokens]
    return found.index(True) + 1 if any(found) else None


def token_name(token: str) -> str:
    """Return the name of a token, by which logs and commands tell it from others.

    It stays the same whatever other tokens come and go. It tells nobody the token, which is random and long.
    """
    return f"token {hashlib.sha256(token.encode()).hexdigest()[:8]}"


def _check_token(role: str) -> str:
    """Return the name of the token of `role` that the request carries, such as "token 1f3a9c02"."""
    settings: Settings = current_app.extensions["settings"]
    tokens = {
        "admin": settings.admin_token,
        "evaluator": settings.evaluator_token,
        # an admin may do what Prometheus may
        "metrics": settings.metrics_token + settings.admin_token,
    }
    header = request.headers.get("Authorization", "")
    if is_open() and not (header and tokens[role]):
        return "no token"
    scheme, _, given = header.partition(" ")
    if scheme.lower() != "bearer" or not given:
        raise _unauthorized(f"Send the header Authorization: Bearer, with a token of the role {role}.")
    if number := find_token(given.strip(), tokens[role]):
        return token_name(tokens[role][number - 1])
    if any(find_token(given.strip(), others) for others in tokens.values()):
        raise Forbidden(f"This token does not have the role {role}.")
    raise _unauthorized(f"The token is not valid; ask the operator for one of the role {role}.")


def _require_token(role: str) -> Callable:
    """A decorator of views: 401 or 403 unless the request carries a token of `role`; g.token is which.

    What an admin changes is written into the log of actions.
    """

    def decorate(view: Callable) -> Callable:
        @wraps(view)
        def guarded(*args: Any, **kwargs: Any) -> Any:
            g.token = _check_token(role)
            answer = view(*args, **kwargs)
            if role == "admin" and request.method != "GET":
                rule = request.url_rule.rule if request.url_rule else request.path
                record(g.token, f"{request.method} {rule}", " ".join(map(str, kwargs.values())))
            return answer

        guarded.role = role  # type: ignore[attr-defined]  # read by the OpenAPI document
        return guarded

    return decorate


def record(done_by: str, action: str, subject: str) -> None:
    """Write into the log of admins' actions what has just been done."""
    with autocommit():
        record_action(done_by, action, subject)
    log.info("admin_action", done_by=done_by, action=action, subject=subject)


require_admin = _require_token("admin")
require_evaluator = _require_token("evaluator")
require_metrics = _require_token("metrics")


def require_miner(view: Callable) -> Callable:
    """Decorate a view: 401 unless the request is signed by btauth/1. g.miner_hotkey is then the signer.

    Where no credentials are needed, an unsigned request passes and g.miner_hotkey is None. The nonce is used
    up from then on, even if the request fails. PostgreSQL remembers it for all web processes.
    """

    @wraps(view)
    def guarded(*args: Any, **kwargs: Any) -> Any:
        unsigned = not any(name.lower().startswith("x-bittensor-") for name, _ in request.headers)
        g.miner_hotkey = None if unsigned and is_open() else _authenticate_miner()
        return view(*args, **kwargs)

    guarded.role = "miner"  # type: ignore[attr-defined]
    return guarded


def _authenticate_miner() -> str:
    query = request.query_string.decode("latin-1")
    # as it was sent, where the server tells; the path alone may have been decoded
    target = request.environ.get("RAW_URI") or request.path + (f"?{query}" if query else "")
    try:
        caller = btauth.verify(
            request.headers,
            request.get_data(),
            method=request.method,
            target=target,
            now_ns=time.time_ns(),
        )
    except btauth.NotAuthenticated as refusal:
        raise _unauthorized(str(refusal), "Btauth") from refusal
    with autocommit():
        is_fresh = use_nonce(caller.hotkey, caller.nonce, NONCE_MEMORY_SECONDS)
    if not is_fresh:
        raise Unauthorized("This signed request was used before; sign each request again.", "Btauth")
    return caller.hotkey
