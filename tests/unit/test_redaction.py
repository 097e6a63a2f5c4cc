import time

import pytest

from app.redaction import masked_in, stripped, stripped_json

PRESIGNED = "https://s3.example/b/uploads/k/v.mp4?X-Amz-Signature=0123456789abcdef"


@pytest.mark.parametrize(
    ("text", "left"),
    [
        (f"403 for url: {PRESIGNED}", "403 for url: [address]"),
        ("HTTPConnectionPool: Max retries with url: /b/v.mp4?X-Amz-Signature=abc&x=1 (x)", None),
        ("Incorrect API key provided: sk-proj-AbC123dEf456GhI789jKl", "Incorrect API key provided: [key]"),
        ("postgresql://kibotos:secret@db/k is away", "[address] is away"),
        ("It has 3 of 5 frames; see https://docs.example/x.", "It has 3 of 5 frames; see [address]"),
        (
            "Shows footage of submission 123e4567-e89b-12d3-a456-426614174000, which was first.",
            "Shows footage of submission 123e4567-e89b-12d3-a456-426614174000, which was first.",
        ),
        ("Does not show the requested task: and/or internationalisation", None),
    ],
)
def test_stripped_leaves_neither_address_nor_key(text, left):
    result = stripped(text)
    if left is not None:
        assert result == left
    assert "Signature" not in result
    assert stripped("and/or internationalisation") == "and/or internationalisation"


def test_stripped_json_is_never_longer_and_keeps_identifiers():
    node = {"a": ["x://y", {PRESIGNED: PRESIGNED}], "sha256": "0123456789abcdef" * 4, "n": 1.5, "z": None}
    assert stripped_json(node, frozenset({"sha256"})) == {
        "a": ["[addr", {"[address]": "[address]"}],
        "sha256": node["sha256"],
        "n": 1.5,
        "z": None,
    }
    assert stripped_json({"sha256": node["sha256"]}) == {"sha256": "[key]"}


@pytest.mark.parametrize("text", ["a" * 65536, "?" * 65536, "?a" * 32768, "a:/" * 20000, "a?=" * 20000])
def test_no_text_takes_long(text):
    """Of the processor; a quadratic search would take four to eleven seconds."""
    began = time.process_time()
    stripped(text)
    assert time.process_time() - began < 2


def test_masked_in_leaves_what_helps():
    assert masked_in("http://u:p@llm:1/v1?key=s is away: url: /v1?key=s") == (
        "http://u:***@llm:1/v1?*** is away: url: /v1?***"
    )
