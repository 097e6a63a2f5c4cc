"""Fixtures of corrections and takedowns."""

from tests.api.conftest import put_upload  # noqa: F401
from tests.appeals.conftest import appeal, evaluate_anew  # noqa: F401
