"""Secrets taken out of what is shown to people: addresses, queries, keys. Pure."""

import re

from app.config import masked

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^\s'\"<>()]+")
_QUERY = re.compile(r"\?[^\s'\"<>()]*=[^\s'\"<>()]*")
_WORD = re.compile(r"[A-Za-z0-9_+/=-]{20,}")
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)


def masked_in(text: str) -> str:
    """Return `text` with every URL in it `masked`, and queries that stand without their URL as well."""
    return _QUERY.sub("?***", _URL.sub(lambda url: masked(url.group()), text))


def stripped(text: str) -> str:
    """Return `text` without URLs, queries and whatever looks like a key: for what strangers may read."""
    return _WORD.sub(_strip_key, _QUERY.sub("", _URL.sub("[address]", text)))


def _strip_key(word: re.Match[str]) -> str:
    plain = _UUID.fullmatch(word.group()) or not re.search(r"\d", word.group())
    return word.group() if plain else "[key]"
