"""Keeps a lease in PostgreSQL while slow work is done under it, and rides out outages of the database."""

import os
import signal
import threading
import time
from collections.abc import Callable
from typing import Any

import structlog
from flask import Flask
from sqlalchemy.exc import SQLAlchemyError

from app.assessment.model import LeaseLost
from app.db import db, describe, is_away

log = structlog.get_logger(__name__)

EXTEND_EVERY_SECONDS = 10.0


def kill_group() -> None:
    """Kill this process and all programs that it started: what is done without a lease is done in vain."""
    os.killpg(0, signal.SIGKILL)


class Lease:
    """Extends a lease of `seconds` from a thread while the block runs.

    It was taken at the monotonic time `began`. `extend` makes it last so long from now, or raises LeaseLost.
    When the lease is lost, or could not be extended until its end, `on_loss` is called in the thread, and
    `check` raises LeaseLost.
    """

    def __init__(
        self,
        app: Flask,
        subject: str,
        extend: Callable[[float], None],
        began: float,
        seconds: float,
        on_loss: Callable[[], None] = kill_group,
    ):
        self._app = app
        self._subject = subject
        self._extend = extend
        self._seconds = seconds
        self._ends = began + seconds
        self._on_loss = on_loss
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._keep, daemon=True)

    def __enter__(self) -> "Lease":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def check(self) -> None:
        """Raise LeaseLost if the lease has ended."""
        if time.monotonic() > self._ends:
            raise LeaseLost(f"The lease on {self._subject} has ended.")

    def ride_out(self, access: Callable[[], Any]) -> Any:
        """Return what `access` returns. Repeat it while the database is away; raise LeaseLost in the end."""
        while True:
            self.check()
            try:
                return access()
            except SQLAlchemyError as error:
                db.session.remove()
                if not is_away(error):
                    raise
                log.warning("database_away", error=describe(error))
                time.sleep(1)

    def _keep(self) -> None:
        wait = EXTEND_EVERY_SECONDS
        while not self._over.wait(wait):
            began = time.monotonic()
            try:
                self.check()
                with self._app.app_context():
                    self._extend(self._seconds)
                self._ends = began + self._seconds
                wait = EXTEND_EVERY_SECONDS
            except SQLAlchemyError as error:
                # whatever is wrong, until the lease ends it may pass
                log.warning("lease_not_extended", subject=self._subject, error=describe(error))
                wait = 1.0
            except LeaseLost:
                # what was done may have just been written
                if not self._over.is_set():
                    log.warning("lease_lost", subject=self._subject)
                    self._ends = 0.0
                    self._on_loss()
                return
