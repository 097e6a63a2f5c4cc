"""The remote evaluator: it gets its work over HTTP and needs neither the database nor Redis."""

import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from functools import partial
from http import HTTPStatus
from pathlib import Path
from typing import Any

import structlog
from pydantic import BaseModel, ValidationError

from app.assessment import pipeline, wire
from app.assessment.model import Claim, LeaseLost, Outcome
from app.clients.backend import Backend, Refused
from app.errors import ChangingVideo, DomainError, TransientError, Unavailable
from app.fields import storable
from app.version import VERSION
from app.video.frames import FrameHash

log = structlog.get_logger(__name__)

# Pause after a transient error, doubled by each further one in a row. While the judge or storage is out of
# reach, a claim would only cost an attempt.
FIRST_PAUSE_SECONDS = 5.0
LONGEST_PAUSE_SECONDS = 300.0
# A result that is sent in the last moment of a lease would arrive too late.
LEASE_MARGIN_SECONDS = 5.0
# of the base64 in a question whether footage is known; the backend takes bodies of 1 MiB
MAX_FINGERPRINT_BYTES = 384 * 1024


class _Fetched(BaseModel):
    submissions: list[dict[str, Any]]


class _Known(BaseModel):
    rejection_reason: str | None


class _Handle(BaseModel):
    """The fields of a row that are needed to release its submission."""

    id: int
    claim_token: str


class EvaluatorRunner:
    """Keeps up to `batch_size` evaluations under way at once, until it is told to stop.

    No more than `processors` videos are decoded or painted at once. Others are downloaded, or at the judge:
    while some are judged, the next are decoded. A lease runs from the claim on. So of those that are not at
    the judge yet there are at most two for each processor: the one that it works on, and the next.
    """

    def __init__(
        self,
        backend: Backend,
        judge_for: Callable[[Claim], pipeline.Assessor],
        paint: pipeline.Paint | None,
        batch_size: int,
        processors: int,
    ):
        self._backend = backend
        self._judge_for = judge_for
        self._paint = paint
        self._batch_size = batch_size
        self._most_before_judge = 2 * processors
        self._processor = threading.Semaphore(processors)
        self._faults_in_a_row = 0
        # submissions whose result the backend refused: the judge is not paid for them again
        self._refused: set[int] = set()
        self._stopping = threading.Event()

    def stop(self) -> None:
        """Claim nothing more. `run` returns when the evaluations under way have ended."""
        self._stopping.set()

    def run(self, poll_interval: float) -> None:
        """Fetch and evaluate until `stop`; raise Refused if the backend does not accept our token.

        Asks for work when an evaluation has come to the judge or to its end, and every `poll_interval`
        seconds.
        """
        running: set[Future[None]] = set()
        # done when an evaluation comes to the judge
        before_judge: set[Future[None]] = set()
        with (
            tempfile.TemporaryDirectory(prefix="kibotos-evaluator-") as directory,
            ThreadPoolExecutor(self._batch_size) as pool,
        ):
            while not self._stopping.is_set():
                room = min(self._batch_size - len(running), self._most_before_judge - len(before_judge))
                for row in self._fetch(room):
                    looked: Future[None] = Future()
                    before_judge.add(looked)
                    running.add(pool.submit(self._process, row, Path(directory), looked))
                self._wait(running, before_judge, poll_interval)
            log.info("evaluator_draining", under_way=len(running))

    def _fetch(self, limit: int) -> list[dict[str, Any]]:
        if limit <= 0:
            return []
        try:
            # once: if the answer is lost, its submissions stay claimed, and another request would claim more
            answer = self._backend.post("/v1/evaluate/fetch", {"limit": limit}, once=True)
            return _Fetched.model_validate(answer).submissions
        except Unavailable as error:
            log.warning("fetch_failed", reason=error.detail)
            self._stopping.wait(min(error.retry_after or 0, LONGEST_PAUSE_SECONDS))
        except ValidationError:
            log.warning(
                "fetch_failed",
                reason=f"{self._backend.url} lists no submissions: check that --api-url names the backend.",
            )
        return []

    def _wait(
        self, running: set[Future[None]], before_judge: set[Future[None]], poll_interval: float
    ) -> None:
        """Wait until there is room for another evaluation, the time is over or we are to stop.

        Takes what is done out of both sets.
        """
        began = time.monotonic()
        while not self._stopping.is_set():
            left = began + max(poll_interval, self._pause()) - time.monotonic()
            if left <= 0:
                break
            if not running:
                self._stopping.wait(min(left, 1.0))
                continue
            done, _ = wait(running | before_judge, min(left, 1.0), FIRST_COMPLETED)
            running -= done
            before_judge -= done
            for future in done:
                future.result()
            if done and not self._faults_in_a_row:
                break

    def _pause(self) -> float:
        if not self._faults_in_a_row:
            return 0.0
        return min(FIRST_PAUSE_SECONDS * 2 ** (self._faults_in_a_row - 1), LONGEST_PAUSE_SECONDS)

    def _process(self, row: dict[str, Any], directory: Path, looked: Future[None]) -> None:
        """Evaluate one submission as fetched, and report its result or release it.

        `looked` gets its result when the submission comes to the judge, or does not.
        """
        try:
            self._evaluate(row, directory, lambda: looked.set_result(None))
        finally:
            if not looked.done():
                looked.set_result(None)

    def _evaluate(self, row: dict[str, Any], directory: Path, tell_looked: Callable[[], None]) -> None:
        try:
            claim, url = wire.read_claim(row)
        except ValidationError as error:
            self._release_unread(row, error)
            return
        if claim.id in self._refused:
            log.warning("submission_skipped", submission=str(claim.submission_uuid))
            self._release(claim, TransientError("The backend refused this evaluator's result before."))
            return
        structlog.contextvars.bind_contextvars(submission=str(claim.submission_uuid), attempt=claim.attempt)

        def check_lease() -> None:
            if self._backend.seconds_until(claim.lease_expires_at) < LEASE_MARGIN_SECONDS:
                raise LeaseLost("The lease ended before the evaluation did.")

        try:
            find_known = partial(self._find_known, claim)
            evaluation = pipeline.look(
                claim, lambda: url, directory, check_lease, find_known, self._paint, self._processor
            )
            tell_looked()
            self._submit(claim, evaluation.judged(self._judge_for(claim)))
        except LeaseLost as lost:
            log.warning("lease_lost", reason=str(lost))
        except TransientError as fault:
            self._release(claim, fault)
        except Exception as error:
            log.exception("evaluation_failed")
            self._release(claim, TransientError(f"{type(error).__name__}: {error}"))

    def _release_unread(self, row: dict[str, Any], error: ValidationError) -> None:
        """Release a row that this version does not understand. If that fails, its lease expires."""
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        reason = f"This evaluator (kibotos {VERSION}) does not understand {where}: {first['msg']}"
        try:
            handle = _Handle.model_validate(row)
        except ValidationError:
            self._faults_in_a_row += 1
            log.warning("row_not_understood", reason=reason)
        else:
            self._release(handle, TransientError(reason))

    def _find_known(self, claim: Claim, frames: tuple[FrameHash, ...], features: bytes) -> str | None:
        """Do the precheck: ask whether the footage is known, before the judge is paid. None also if it fails.

        In that case the backend finds out when the result is recorded.
        """
        body = {
            "submission_id": claim.id,
            "claim_token": str(claim.claim_token),
            "fingerprint": wire.pack_fingerprint(frames, MAX_FINGERPRINT_BYTES),
            "features": wire.pack_features(features),
        }
        try:
            answer = self._backend.post("/v1/evaluate/precheck", body, once=True)
            return _Known.model_validate(answer).rejection_reason
        except (DomainError, ValidationError) as error:
            # the backend is away, or older than this question
            log.info("known_footage_not_asked", reason=str(error))
            return None

    def _submit(self, claim: Claim, outcome: Outcome) -> None:
        """Report the result, repeatedly while the backend is out of reach. Raise LeaseLost if it is too late.

        A result that the backend refuses is not sent again, and its submission is not evaluated again. The
        judge would have to be paid each time.
        """
        body = wire.show_outcome(claim, outcome)
        while True:
            try:
                answer = self._backend.post("/v1/evaluate/submit", body)
            except Refused as refused:
                if refused.status == HTTPStatus.UNPROCESSABLE_ENTITY and wire.drop_features(body):
                    # an older backend finds no room for them
                    continue
                # a conflict may be with ourselves, if the answer to an earlier attempt was lost
                log.warning("result_refused", status=refused.status, reason=refused.detail)
                if refused.status == HTTPStatus.CONFLICT:
                    self._faults_in_a_row = 0
                else:
                    self._refused.add(claim.id)
                    # another evaluator, or a worker, may do better
                    reason = f"The backend refused this evaluator's result: {refused.detail}"
                    self._release(claim, TransientError(reason))
                return
            except Unavailable as error:
                if self._backend.seconds_until(claim.lease_expires_at) < 0:
                    raise LeaseLost(f"The result could not be reported in time: {error.detail}") from error
                log.warning("submit_failed", reason=error.detail)
            else:
                self._faults_in_a_row = 0
                left = self._backend.seconds_until(claim.lease_expires_at)
                assert outcome.report.stage_seconds
                log.info(
                    "result_reported",
                    answer=answer,
                    stage_seconds=outcome.report.stage_seconds.model_dump(exclude_none=True),
                    lease_seconds_left=round(left),
                )
                return

    def _release(self, held: Claim | _Handle, fault: TransientError) -> None:
        """Release the submission, so that another can claim it. If that fails, its lease expires."""
        # a video that fails alone is no reason to slow down
        self._faults_in_a_row = 0 if fault.suspect_video else self._faults_in_a_row + 1
        log.warning("evaluation_released", reason=fault.reason)
        body = {
            "submission_id": held.id,
            "claim_token": str(held.claim_token),
            "reason": storable(fault.reason)[:1000],
            "suspect_video": fault.suspect_video,
            "video_changes": isinstance(fault, ChangingVideo),
        }
        if fault.dependency:
            # otherwise left out, since older backends refuse it
            body["dependency"] = fault.dependency
        try:
            self._backend.post("/v1/evaluate/release", body)
        except DomainError as error:
            log.warning("release_failed", reason=error.detail)
