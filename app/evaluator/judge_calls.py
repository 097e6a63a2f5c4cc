"""Counts requests to the judge at the backend, which knows those of other evaluators as well."""

from http import HTTPStatus

from pydantic import BaseModel, ValidationError

from app.assessment.judge import LocalCounter
from app.assessment.model import Claim, LeaseLost
from app.clients.backend import Backend, Refused
from app.errors import DomainError, TransientError


class _Granted(BaseModel):
    granted: bool


class RemoteCounter:
    """See model.CallCounter. If the backend is too old to count, this counts by itself."""

    def __init__(self, backend: Backend, claim: Claim):
        self._backend = backend
        self._claim = claim
        self._own: LocalCounter | None = None

    def count(self, calls: int) -> bool:
        """Raises LeaseLost if the lease has ended, and TransientError if the backend is out of reach."""
        if self._own:
            return self._own.count(calls)
        body = {"submission_id": self._claim.id, "claim_token": str(self._claim.claim_token), "calls": calls}
        try:
            answer = self._backend.post("/v1/evaluate/judge-calls", body)
            return _Granted.model_validate(answer).granted
        except Refused as refused:
            if refused.status == HTTPStatus.CONFLICT:
                raise LeaseLost(refused.detail) from refused
            if refused.status in {HTTPStatus.NOT_FOUND, HTTPStatus.METHOD_NOT_ALLOWED}:
                self._own = LocalCounter()
                return self._own.count(calls)
            raise TransientError(refused.detail) from refused
        except (DomainError, ValidationError) as error:
            raise TransientError(f"The backend cannot count the request to the judge: {error}") from error
