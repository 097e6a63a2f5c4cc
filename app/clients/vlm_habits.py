"""What a server of chat completions takes, learned from what it has refused.

The servers that speak this protocol differ: in the name of a parameter, in the schemas they understand, in
how many pictures they take. What each refuses is dropped or replaced, and that is remembered.
"""

import re
from typing import Any

from pydantic import BaseModel, ConfigDict

from app.errors import Unavailable

# how the form of an answer is asked for: each is tried where those before it are refused
STRICT_SCHEMA, LOOSE_SCHEMA, ANY_OBJECT = FORMATS = ("strict json_schema", "json_schema", "json_object")
# all that is asked of a schema where LOOSE_SCHEMA is
_SCHEMA_KEYWORDS = {"type", "properties", "required"}

# What a refusal may name, and how. Only what was sent can be meant. A name that is an everyday word, too,
# counts in quotes or after "parameter:" only: what moderates a video speaks of seeds and strict policies.
_AS_PARAMETER = r"(?:['\"`]|(?:parameter|argument|field|supplied|keyword|invalid|unknown|unsupported)s?:? )"
_NAMED = {
    "max_completion_tokens": r"max_completion_tokens",
    "max_tokens": r"\bmax_tokens",
    "temperature": rf"{_AS_PARAMETER}temperature\b",
    "seed": rf"{_AS_PARAMETER}seed\b",
    "chat_template_kwargs": r"chat_template_kwargs|enable_thinking",
    "response_format": (
        r"response_format|json[_ ]schema|json_object|guided[_ ](?:decoding|json)|structured[_ ]output|"
        r"schema keyword|additional_?properties|"
        r"(?:parse|convert|compile|invalid) (?:the )?(?:grammar|schema)|"
        rf"{_AS_PARAMETER}(?:schema|strict|grammar|guided)\b"
    ),
}
_MODERATES = re.compile(
    r"content[ _-](?:policy|policies|filter|management)|moderat|safety (?:system|policy|filter)|inappropriate"
)
_AT_MOST = [
    re.compile(pattern)
    for pattern in (
        r"(?:image|picture) count \d+ exceeds limit (\d+)",
        r"(?:at most|up to|only|maximum of|max(?: is)?|limit(?:ed to| of| is)?)\D{0,20}(\d+)\D{0,12}"
        r"(?:image|picture|multimodal)",
        r"set ['\"`]?image['\"`]?\s*=\s*(\d+)",
        r"(?:image|picture)s?\b\D{0,60}(?:at most|up to|max(?:imum)?(?: is)?|limit(?: of| is)?)\D{0,12}(\d+)",
        r"number of (?:image|picture)s\D{0,40}(\d+)",
    )
]
_JUST_ONE = re.compile(r"multiple (?:image|picture)s|(?:one|single) (?:image|picture)")
_TOO_MANY = re.compile(r"too many (?:image|picture)s")
_TOO_LONG = re.compile(
    r"context[ _-]?(?:length|window|size|overflow)|maximum context|max[ _]model[ _]len|"
    r"too many (?:input |prompt )?tokens|"
    r"\b(?:prompt|input|request|payload|body|message|image)s?(?: (?!took)\w+){0,2} "
    r"too (?:long|large|big)|"
    r"exceeds? the (?:available |maximum |model'?s )*(?:context|number of tokens|input)|"
    r"input token count|entity too large"
)

_PICTURE_SIZE = re.compile(r"image (?:size|dimension|resolution)")
_TOO_SMALL = re.compile(r"too (?:small|low|short)|at least|minimum|below|smaller than")


class TooMuch(Unavailable):
    """The server takes no request of this size: `said` are its words, `at_most` how many pictures it takes by
    them.
    """

    def __init__(self, said: str, at_most: int | None = None):
        super().__init__("The judge takes no request of this size.", 600)
        self.said = said
        self.at_most = at_most


class Habits(BaseModel):
    """`refused` are parameters and formats. `pictures` and `long_side` are the most that it took of each.

    `thinks`: its answers were cut off in the middle of a thought, so it needs more room.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    refused: frozenset[str] = frozenset()
    pictures: int | None = None
    long_side: int | None = None
    thinks: bool = False

    def shape(self, payload: dict[str, Any]) -> dict[str, Any]:
        """Return a request in the form this server takes."""
        body = dict(payload)
        if "max_tokens" in body and "max_tokens" in self.refused:
            body["max_completion_tokens"] = body["max_tokens"]
        for name in self.refused:
            body.pop(name, None)
        if "response_format" in payload and self.format != STRICT_SCHEMA:
            body["response_format"] = _loosened(payload["response_format"], self.format)
            if self.format is None:
                del body["response_format"]
        return body

    @property
    def format(self) -> str | None:
        """How the form of an answer is asked for, or None if no way is left."""
        return next((each for each in FORMATS if each not in self.refused), None)

    def learn(self, said: str, sent: dict[str, Any]) -> "Habits | None":
        """Return the habits after a refusal that says `said` of the request `sent`.

        What it names first is taken to be meant; None if it names nothing, or speaks of what the pictures
        show. A wrong guess costs one request more: each leaves less to refuse.
        """
        said = said.lower()
        if _MODERATES.search(said):
            return None
        named = {}
        for name in sent.keys() & _NAMED.keys():
            if found := re.search(_NAMED[name], said):
                named[name] = found.start()
        if not named:
            return None
        first = min(named, key=lambda name: named[name])
        refused = self.format if first == "response_format" else first
        return self.model_copy(update={"refused": self.refused | {str(refused)}})


def find_excess(status: int, said: str) -> TooMuch | None:
    """Return what a refusal says of too many pictures or too long a request, or None if it says neither."""
    words, said = said, said.lower()
    if status == 403 or _MODERATES.search(said):
        return None
    for pattern in _AT_MOST:
        if found := pattern.search(said):
            return TooMuch(words, int(found[1]))
    if _JUST_ONE.search(said):
        return TooMuch(words, 1)
    if status == 413 or _TOO_MANY.search(said) or _TOO_LONG.search(said):
        return TooMuch(words)
    if _PICTURE_SIZE.search(said) and not _TOO_SMALL.search(said):
        return TooMuch(words)
    return None


def _loosened(response_format: dict[str, Any], format: str | None) -> dict[str, Any]:
    if format != LOOSE_SCHEMA:
        return {"type": "json_object"}
    named = response_format["json_schema"]
    return {
        "type": "json_schema",
        "json_schema": {"name": named["name"], "schema": _without_keywords(named["schema"])},
    }


def _without_keywords(schema: dict[str, Any]) -> dict[str, Any]:
    kept = {name: value for name, value in schema.items() if name in _SCHEMA_KEYWORDS}
    if "properties" in kept:
        kept["properties"] = {name: _without_keywords(each) for name, each in kept["properties"].items()}
    return kept
