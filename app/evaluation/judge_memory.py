"""The judge's memory in the database: answers given before, and the tokens used today.

Each method is a short transaction of its own, so none is open while the judge thinks.
"""

from sqlalchemy import text

from app.db import db

_RECALL = text("SELECT answer #>> '{}' FROM judge_answers WHERE cache_key = :cache_key")
_REMEMBER = text("""
    INSERT INTO judge_answers (cache_key, model, prompt_version, answer)
    VALUES (:cache_key, :model, :prompt_version, CAST(:answer AS jsonb)) ON CONFLICT (cache_key) DO NOTHING
""")
_COUNT = text("""
    INSERT INTO judge_usage AS u (day, model, calls, prompt_tokens, completion_tokens)
    VALUES ((now() AT TIME ZONE 'UTC')::date, :model, 1, :prompt_tokens, :completion_tokens)
    ON CONFLICT (day, model) DO UPDATE SET
        calls = u.calls + 1, prompt_tokens = u.prompt_tokens + excluded.prompt_tokens,
        completion_tokens = u.completion_tokens + excluded.completion_tokens
""")
_TODAY = text("""
    SELECT coalesce(sum(prompt_tokens + completion_tokens), 0) FROM judge_usage
    WHERE day = (now() AT TIME ZONE 'UTC')::date
""")


class DatabaseMemory:
    """See judge.JudgeMemory."""

    def recall(self, cache_key: str) -> str | None:
        with db.engine.begin() as connection:
            return connection.execute(_RECALL, {"cache_key": cache_key}).scalar()

    def remember(self, cache_key: str, model: str, prompt_version: str, answer: str) -> None:
        with db.engine.begin() as connection:
            connection.execute(
                _REMEMBER,
                {"cache_key": cache_key, "model": model, "prompt_version": prompt_version, "answer": answer},
            )

    def count_tokens(self, model: str, prompt_tokens: int, completion_tokens: int) -> None:
        with db.engine.begin() as connection:
            connection.execute(
                _COUNT,
                {
                    "model": model,
                    "prompt_tokens": prompt_tokens,
                    "completion_tokens": completion_tokens,
                },
            )

    def tokens_today(self) -> int:
        with db.engine.begin() as connection:
            return int(connection.execute(_TODAY).scalar_one())
