"""The rules that uploads and submissions have in common. Each returns the reason to refuse, or None."""

from math import ceil
from typing import Protocol

from app.errors import DomainError, Forbidden, TooManyRequests, Unavailable


class Registration(Protocol):
    """What the stored metagraph knows of a miner."""

    @property
    def has_metagraph(self) -> bool: ...

    @property
    def is_registered(self) -> bool: ...


def refuse_unregistered(known: Registration, netuid: int | None, refusal: str) -> DomainError | None:
    """Refuse unless the stored metagraph knows the miner; without a netuid nobody is refused."""
    if netuid is None:
        return None
    if not known.has_metagraph:
        return Unavailable("The subnet's metagraph is not loaded yet; try again in a minute.", retry_after=60)
    if not known.is_registered:
        return Forbidden(
            f"{refusal} on subnet {netuid}. If you have just registered, try again in some minutes."
        )
    return None


def refuse_beyond_quota(wait_seconds: float | None, quota: int, what: str) -> DomainError | None:
    """Refuse if the quota has no room for `wait_seconds`; None: it has."""
    if wait_seconds is None:
        return None
    return TooManyRequests(
        f"This hotkey has used up its {quota} {what} an hour; try again in {ceil(wait_seconds)} seconds.",
        wait_seconds,
    )
