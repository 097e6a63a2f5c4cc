"""The judge's memory in the database: earlier answers, tokens used today, and the requests per submission.

Each method is a short transaction of its own, so none is open while the judge thinks.
"""

from collections.abc import Callable
from typing import Any

from sqlalchemy import TextClause, text

from app.assessment.model import MAX_JUDGE_CALLS, CallCounter, Claim
from app.db import db

_RECALL = text("SELECT answer #>> '{}' FROM judge_answers WHERE cache_key = :cache_key")
_REMEMBER = text("""
    INSERT INTO judge_answers (cache_key, model, prompt_version, answer)
    VALUES (:cache_key, :model, :prompt_version, CAST(:answer AS jsonb)) ON CONFLICT (cache_key) DO NOTHING
""")
_COUNT = text("""
    INSERT INTO judge_usage AS u (day, model, calls, prompt_tokens, completion_tokens, cost_usd)
    VALUES ((now() AT TIME ZONE 'UTC')::date, :model, 1, :prompt_tokens, :completion_tokens, :cost_usd)
    ON CONFLICT (day, model) DO UPDATE SET
        calls = u.calls + 1, prompt_tokens = u.prompt_tokens + excluded.prompt_tokens,
        completion_tokens = u.completion_tokens + excluded.completion_tokens,
        cost_usd = u.cost_usd + excluded.cost_usd
""")
_TODAY = text("""
    SELECT coalesce(sum(prompt_tokens + completion_tokens), 0) FROM judge_usage
    WHERE day = (now() AT TIME ZONE 'UTC')::date
""")


_ADD_CALLS = """
    SET judge_calls = least(:most, greatest(0, judge_calls + :calls))
    WHERE id = :id AND claim_token = :claim_token AND (:calls < 0 OR judge_calls < :most)
    RETURNING true
"""
_COUNT_CALLS = text(f"""
    WITH counted AS (UPDATE submissions {_ADD_CALLS}), gold AS (UPDATE gold_showings {_ADD_CALLS})
    SELECT true FROM counted UNION ALL SELECT true FROM gold
""")
_LOAD_HABITS = text("""
    SELECT habits #>> '{}' FROM judge_habits
    WHERE endpoint = :endpoint AND model = :model AND learned_at > now() - make_interval(secs => :max_age)
""")
_SAVE_HABITS = text("""
    INSERT INTO judge_habits (endpoint, model, habits) VALUES (:endpoint, :model, CAST(:habits AS jsonb))
    ON CONFLICT (endpoint, model) DO UPDATE SET habits = excluded.habits, learned_at = now()
""")

RideOut = Callable[[Callable[[], Any]], Any]


class DatabaseMemory:
    """See judge.JudgeMemory and vlm.HabitStore.

    `ride_out` does each access; it may do it again while PostgreSQL is away.
    """

    def __init__(self, ride_out: RideOut = lambda access: access()):
        self._ride_out = ride_out

    def recall(self, cache_key: str) -> str | None:
        return self._execute(_RECALL, cache_key=cache_key)

    def remember(self, cache_key: str, model: str, prompt_version: str, answer: str) -> None:
        self._execute(
            _REMEMBER, cache_key=cache_key, model=model, prompt_version=prompt_version, answer=answer
        )

    def count_tokens(self, model: str, prompt_tokens: int, completion_tokens: int, cost_usd: float) -> None:
        self._execute(
            _COUNT,
            model=model,
            prompt_tokens=prompt_tokens,
            completion_tokens=completion_tokens,
            cost_usd=cost_usd,
        )

    def tokens_today(self) -> int:
        return int(self._execute(_TODAY))

    def load(self, endpoint: str, model: str, max_age_seconds: float) -> str | None:
        return self._execute(_LOAD_HABITS, endpoint=endpoint, model=model, max_age=max_age_seconds)

    def save(self, endpoint: str, model: str, habits: str) -> None:
        self._execute(_SAVE_HABITS, endpoint=endpoint, model=model, habits=habits)

    def counter(self, claim: Claim) -> CallCounter:
        """The counter of all requests to a judge about the submission under `claim`, by any evaluator."""
        return _Counter(claim, self._execute)

    def _execute(self, statement: TextClause, **binds: Any) -> Any:
        """Run `statement` in a transaction and return the first column of its first row, if it gives any."""

        def access() -> Any:
            with db.engine.begin() as connection:
                result = connection.execute(statement, binds)
                return result.scalar() if result.returns_rows else None

        return self._ride_out(access)


class _Counter:
    """See judge.CallCounter."""

    def __init__(self, claim: Claim, execute: Callable[..., Any]):
        self._claim = claim
        self._execute = execute

    def count(self, calls: int) -> bool:
        counted = self._execute(
            _COUNT_CALLS,
            id=self._claim.id,
            claim_token=self._claim.claim_token,
            calls=calls,
            most=MAX_JUDGE_CALLS,
        )
        return bool(counted)
