"""Secrets taken out of what is shown to people: addresses, queries, keys. Pure."""

import re
from typing import Any

from app.config import masked

# each takes a time in proportion to the length of the text, whatever it holds
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]{0,30}://[^\s'\"<>()]+")
_QUERY = re.compile(r"\?[^\s'\"<>()?=]*=[^\s'\"<>()]*")
_WORD = re.compile(r"[A-Za-z0-9_+/=-]{20,}")
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)


def masked_in(text: str) -> str:
    """Return `text` with every URL in it `masked`, and queries that stand without their URL as well."""
    return _QUERY.sub("?***", _URL.sub(lambda url: masked(url.group()), text))


def stripped(text: str) -> str:
    """Return `text` without URLs, queries and whatever looks like a key: for what strangers may read."""
    return _WORD.sub(_strip_key, _without_addresses(text))


def stripped_json(node: Any, identifiers: frozenset[str] = frozenset()) -> Any:
    """Return JSON with its texts and names `stripped`, none longer than it was.

    The fields named in `identifiers` hold hashes and names that look like keys: they lose addresses only.
    """
    if isinstance(node, str):
        return stripped(node)[: len(node)]
    if isinstance(node, list):
        return [stripped_json(child, identifiers) for child in node]
    if isinstance(node, dict):
        return {
            stripped_json(name): _without_addresses(child)[: len(child)]
            if name in identifiers and isinstance(child, str)
            else stripped_json(child, identifiers)
            for name, child in node.items()
        }
    return node


def _without_addresses(text: str) -> str:
    return _QUERY.sub("", _URL.sub("[address]", text))


def _strip_key(word: re.Match[str]) -> str:
    plain = _UUID.fullmatch(word.group()) or not re.search(r"\d", word.group())
    return word.group() if plain else "[key]"
