"""Endpoints of ledgers, receipts and keys."""

from uuid import UUID

from flask import Blueprint, Response, current_app, redirect
from spectree import Response as Answers

from app.ledger import service
from app.ledger.models import KeyOut, KeysOut, ReceiptOut
from app.ledger.queries import list_keys
from app.proofs.receipts import Receipt
from app.web.api import Problem, spec

blueprint = Blueprint("ledger", __name__)

_ID = f"<int(max={2**63 - 1}):cycle_id>"


@blueprint.get(f"/v1/cycles/{_ID}/ledger")
@spec.validate(resp=Answers("HTTP_307", HTTP_404=Problem), tags=["ledger"])
def get_ledger(cycle_id: int) -> Response:
    """Redirect to the file of a completed cycle's ledger: JSON Lines, compressed by zstd.

    docs/ledger.md says what each line is, and how anyone recomputes the weights from them.
    """
    response = redirect(service.get_url(cycle_id, current_app.extensions["storage"]), 307)
    # the address ends to be valid
    response.headers["Cache-Control"] = "no-store"
    return response  # type: ignore[return-value]


@blueprint.get(f"/v1/cycles/{_ID}/ledger/head")
@spec.validate(
    resp=Answers(HTTP_200=ReceiptOut, HTTP_404=Problem, HTTP_409=Problem),
    skip_validation=True,
    tags=["ledger"],
)
def get_ledger_head(cycle_id: int) -> Response:
    """Return the receipt of the first line of a cycle's ledger, which names the ledger before it.

    409 if the database no longer gives the ledger that was published.
    """
    return _show(service.get_head(cycle_id, current_app.extensions["settings"]))


@blueprint.get("/v1/submissions/<uuid:submission_uuid>/receipt")
@spec.validate(
    resp=Answers(HTTP_200=ReceiptOut, HTTP_404=Problem, HTTP_409=Problem),
    skip_validation=True,
    tags=["submissions"],
)
def get_receipt(submission_uuid: UUID) -> Response:
    """Return the proof, signed by this backend, of what a submission counted for in its completed cycle.

    Keep the answer as it is, byte by byte. `kibotos receipt verify` checks it without this backend.
    """
    return _show(service.get_receipt(submission_uuid, current_app.extensions["settings"]))


@blueprint.get("/v1/keys")
@spec.validate(resp=Answers(HTTP_200=KeysOut), tags=["ledger"])
def get_keys() -> KeysOut:
    """Return the public keys that sign, or have signed, receipts, with the times when they were valid."""
    return KeysOut(keys=[KeyOut.model_validate(period, from_attributes=True) for period in list_keys()])


def _show(receipt: Receipt) -> Response:
    # it stays true; only the key that signs may be another one later
    headers = {"Cache-Control": "public, max-age=3600"}
    return Response(receipt.encode(), mimetype="application/json", headers=headers)
