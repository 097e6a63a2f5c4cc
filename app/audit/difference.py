"""The first thing of a ledger that is not as it must be."""

# of a value that is shown
_MAX_SHOWN = 200


class Difference(Exception):
    """What does not match; the message is a sentence with line, field, what is expected and what is found.

    `line` counts from 1, as editors do; None if the fault is of no single line.
    """

    def __init__(self, line: int | None, field: str, expected: object, found: object):
        self.line = line
        self.field = field
        self.expected = _show(expected)
        self.found = _show(found)
        # what unpickling calls it with
        super().__init__(line, field, expected, found)

    def __str__(self) -> str:
        where = f"Line {self.line}, {self.field}" if self.line else self.field[:1].upper() + self.field[1:]
        return f"{where}: expected {self.expected}, found {self.found}."


def _show(value: object) -> str:
    """`value` for a terminal: a fault's text is whatever a stranger wrote."""
    text = value if isinstance(value, str) else repr(value)
    text = text if len(text) <= _MAX_SHOWN else text[:_MAX_SHOWN] + "…"
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
