"""The weights that a backend publishes, and the check of them."""

from collections import Counter
from collections.abc import Collection, Container, Mapping
from datetime import datetime, timedelta
from math import fsum, isfinite
from typing import Annotated

from pydantic import AwareDatetime, BaseModel, Field, ValidationError

from app.clients.sites import LeadsElsewhere, NotThere, Site
from app.proofs.sealed import Forged, unseal

# weights, units and hotkeys of 65,536 uids
MAX_ANSWER_BYTES = 8 * 1024 * 1024
MAX_KEYS = 1000
U16_MAX = 65535
SUM_TOLERANCE = 1e-9
CLOCK_SKEW = timedelta(minutes=5)

Uid = Annotated[int, Field(ge=0, le=U16_MAX)]


class Units(BaseModel):
    uids: Annotated[list[Uid], Field(max_length=U16_MAX + 1)]
    weights: Annotated[list[Annotated[int, Field(ge=1, le=U16_MAX)]], Field(max_length=U16_MAX + 1)]

    def only(self, wanted: Container[int]) -> "Units":
        """Those of the uids that are `wanted`."""
        pairs = [pair for pair in zip(self.uids, self.weights, strict=True) if pair[0] in wanted]
        return Units(uids=[uid for uid, _ in pairs], weights=[weight for _, weight in pairs])


class Published(BaseModel):
    """The fields of an answer of /v1/weights/… that validators and verifiers use."""

    cycle_id: Annotated[int, Field(ge=1)]
    created_at: AwareDatetime
    weights: dict[Uid, float]
    weights_u16: Units
    # the hotkey that each uid is paid for; earlier backends do not send it
    hotkeys: dict[Uid, str] = {}
    block_number: int | None = None
    # of the cycle's ledger; earlier backends have none
    ledger_root: str | None = None
    ledger_lines: int | None = None


class Key(BaseModel):
    key: str


class Keys(BaseModel):
    """The keys that the backend signs with, or has signed with, as /v1/keys answers them."""

    keys: Annotated[list[Key], Field(max_length=MAX_KEYS)]


class Malformed(Exception):
    """A site answers with what cannot be used; the message is a sentence."""


def read_weights(site: Site, cycle: int | None, keys: Collection[str]) -> Published:
    """Return what a site publishes of a cycle (None: of the last one with weights).

    What a mirror has must be signed by one of the backend's `keys`. Raises NoAnswer, NotThere, LeadsElsewhere
    or Malformed.
    """
    path = site.paths.latest if cycle is None else site.paths.weights.format(cycle)
    content = site.read(path, MAX_ANSWER_BYTES)
    try:
        payload = unseal("weights", content, keys) if site.is_mirror else content
        return Published.model_validate_json(payload)
    except Forged as error:
        raise Malformed(f"{site.called} has weights that cannot be trusted. {error}") from error
    except ValidationError as error:
        first = error.errors()[0]
        raise Malformed(
            f"{site.called} answers with malformed weights at {first['loc']}: {first['msg']}."
        ) from error


def read_keys(backend: Site) -> tuple[str, ...]:
    """Return the backend's keys; none if it names none. Raises NoAnswer."""
    try:
        keys = Keys.model_validate_json(backend.read("/v1/keys", MAX_ANSWER_BYTES))
    except (LeadsElsewhere, NotThere, ValidationError):
        return ()
    return tuple(key.key for key in keys.keys)


def find_fault(published: Published, now: datetime, max_age: timedelta) -> str | None:
    """Return a sentence about the first error in `published`, or None."""
    age = now - published.created_at
    if age > max_age:
        return f"The weights are too old: they were computed {age} ago, and at most {max_age} is accepted."
    if age < -CLOCK_SKEW:
        return f"The weights come from the future ({published.created_at}); check both clocks."
    weights, units = published.weights, published.weights_u16
    if not weights or not all(isfinite(weight) and weight > 0 for weight in weights.values()):
        return "The weights are not all positive numbers."
    if abs(fsum(weights.values()) - 1) > SUM_TOLERANCE:
        return f"The weights sum to {fsum(weights.values())}, not to 1."
    if len(units.uids) != len(units.weights):
        return "The u16 weights and their uids differ in number."
    if sum(units.weights) != U16_MAX:
        return f"The u16 weights sum to {sum(units.weights)}, not to {U16_MAX}."
    if max(Counter(units.uids).values()) > 1:
        return "The u16 weights name a uid twice."
    given = dict(zip(units.uids, units.weights, strict=True))
    for uid in weights.keys() | given.keys():
        if abs(weights.get(uid, 0) * U16_MAX - given.get(uid, 0)) > 1:
            return f"The float weight and the u16 weight of uid {uid} differ."
    return None


def find_unknown_uids(published: Published, known: Container[int]) -> str | None:
    """Return a sentence that names the weighted uids that are not in `known`, or None."""
    unknown = sorted(uid for uid in published.weights if uid not in known)
    return f"The weights name uids that the subnet does not have: {unknown[:20]}." if unknown else None


def list_replaced_uids(published: Published, holders: Mapping[int, str]) -> list[int]:
    """Return the weighted uids that now belong to another hotkey than the one that earned them."""
    return sorted(uid for uid, hotkey in published.hotkeys.items() if holders.get(uid) != hotkey)
