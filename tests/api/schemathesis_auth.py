"""Loaded by schemathesis (SCHEMATHESIS_HOOKS): proves each role as a caller of it would."""

import requests
import schemathesis
from bittensor import http_auth

from tests import factories
from tests.api.conftest import ADMIN_TOKEN, EVALUATOR_TOKEN, bearer


class Token(requests.auth.AuthBase):
    def __init__(self, token):
        self.token = token

    def __call__(self, request):
        request.headers.update(bearer(self.token))
        return request


class Signature(requests.auth.AuthBase):
    def __call__(self, request):
        body = request.body or b""
        body = body.encode() if isinstance(body, str) else body
        request.headers.update(
            http_auth.sign(factories.miner(), method=request.method, path=request.path_url, body=body)
        )
        return request


schemathesis.auth.set_from_requests(Signature()).apply_to(
    path_regex="^(/v1/upload/|/v1/submissions/check|/v1/miners/)"
)
schemathesis.auth.set_from_requests(Token(EVALUATOR_TOKEN)).apply_to(path_regex="^/v1/evaluate/")
schemathesis.auth.set_from_requests(Token(ADMIN_TOKEN)).apply_to(path_regex="^(/v1/admin/|/metrics)")


@schemathesis.hook
def before_call(_context, case, _kwargs):
    """Leave out headers that say how long a message is: a wrong one is refused before it is a request."""
    for name in [
        name for name in case.headers or () if name.lower() in {"content-length", "transfer-encoding"}
    ]:
        del case.headers[name]
