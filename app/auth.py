"""Roles: who may call what, and how they prove who they are."""

from collections.abc import Callable
from functools import wraps
from typing import Any

from flask import Flask


def init_app(app: Flask) -> None:
    pass


def _require_token(setting: str) -> Callable:
    def decorate(view: Callable) -> Callable:
        @wraps(view)
        def guarded(*args: Any, **kwargs: Any) -> Any:
            return view(*args, **kwargs)

        return guarded

    return decorate


require_admin = _require_token("admin_token")
require_evaluator = _require_token("evaluator_token")
