"""What a terminal may be shown of a text that others wrote."""


def printable(text: str) -> str:
    """Return `text` as a terminal may show it: what is invisible, or turns the direction, as an escape."""
    return "".join(
        letter if letter.isprintable() or letter in "\t\n" else letter.encode("unicode_escape").decode()
        for letter in text
    )
