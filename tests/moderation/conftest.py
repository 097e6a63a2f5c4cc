"""Fixtures of corrections and takedowns."""

import pytest

from tests.api.conftest import put_upload  # noqa: F401
from tests.appeals.conftest import appeal, evaluate_anew  # noqa: F401
from tests.factories import make_prompt


@pytest.fixture(autouse=True)
def in_context(app):
    with app.app_context():
        make_prompt(id="p")
        yield


@pytest.fixture
def storage(app):
    return app.extensions["storage"]
