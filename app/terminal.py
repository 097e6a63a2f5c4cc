"""What a terminal is shown of a text that others wrote, or that was meant for others."""

from collections.abc import Mapping


def printable(text: str) -> str:
    """Return `text` as a terminal may show it: what is invisible, or turns the direction, as an escape."""
    return "".join(
        letter if letter.isprintable() or letter in "\t\n" else letter.encode("unicode_escape").decode()
        for letter in text
    )


def name_commands(text: str, commands: Mapping[str, str]) -> str:
    """Return `text` with our `commands`, by endpoint, where the API names its endpoints."""
    for endpoint, command in commands.items():
        text = text.replace(endpoint, command)
    return text
