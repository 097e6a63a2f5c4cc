"""SQL on prompts."""

import json
from dataclasses import dataclass
from typing import Any

from sqlalchemy import text

from app.db import Prepared, execute, fetch_all, fetch_one
from app.prompts.models import CategoryCount, ListVersion, Prompt, PromptFilter

_COLUMNS = """
    p.id, p.category, p.task, p.scenario, p.requirements, p.weight, p.created_at, p.expires_at, p.is_active,
    coalesce((SELECT sum(c.n) FROM prompt_submission_counts c WHERE c.prompt_id = p.id), 0)::bigint
        AS total_submissions
"""

_LISTED = """
    WHERE (CAST(:category AS text) IS NULL OR p.category = :category)
      AND (NOT :active_only OR (p.is_active AND (p.expires_at IS NULL OR p.expires_at > now())))
      AND (CAST(:after AS text) IS NULL OR p.id > :after)
"""
_LIST = text(f"SELECT {_COLUMNS} FROM prompts p {_LISTED} ORDER BY p.id LIMIT :limit")
# xmin is the transaction that last wrote a row
_LIST_VERSION = text(f"""
    SELECT count(*) AS rows, coalesce(sum(CAST(CAST(p.xmin AS text) AS bigint)), 0)::bigint AS transactions
    FROM prompts p {_LISTED}
""")
_FIND = Prepared(f"SELECT {_COLUMNS} FROM prompts p WHERE p.id = :id")
_CATEGORIES = text("""
    SELECT category, count(*) AS count FROM prompts
    WHERE is_active AND (expires_at IS NULL OR expires_at > now())
    GROUP BY category ORDER BY category
""")
_INSERT = text("""
    INSERT INTO prompts (id, category, task, scenario, requirements, weight, expires_at)
    VALUES (:id, :category, :task, :scenario, CAST(:requirements AS jsonb), :weight, :expires_at)
    ON CONFLICT (id) DO NOTHING
""")
_UPDATE = text("""
    UPDATE prompts SET
        is_active = CASE WHEN :set_is_active THEN CAST(:is_active AS boolean) ELSE is_active END,
        weight = CASE WHEN :set_weight THEN CAST(:weight AS double precision) ELSE weight END,
        requirements = CASE WHEN :set_requirements THEN CAST(:requirements AS jsonb) ELSE requirements END,
        expires_at = CASE WHEN :set_expires_at THEN CAST(:expires_at AS timestamptz) ELSE expires_at END
    WHERE id = :id
""")
# The text of a prompt cannot change once something was submitted to it.
_LOAD = text("""
    INSERT INTO prompts AS p (id, category, task, scenario, requirements, weight, expires_at)
    SELECT * FROM jsonb_to_recordset(CAST(:prompts AS jsonb)) AS given
        (id text, category text, task text, scenario text, requirements jsonb, weight double precision,
         expires_at timestamptz)
    ON CONFLICT (id) DO UPDATE SET
        category = excluded.category, task = excluded.task, scenario = excluded.scenario,
        requirements = excluded.requirements, weight = excluded.weight, expires_at = excluded.expires_at
    WHERE :update AND (
        (p.category, p.task, p.scenario) = (excluded.category, excluded.task, excluded.scenario)
        OR NOT EXISTS (SELECT 1 FROM prompt_submission_counts c WHERE c.prompt_id = p.id))
    RETURNING p.id, xmax = 0 AS is_new
""")
_STATS = text("""
    SELECT p.id, p.category, count(s.id) AS submissions,
           count(*) FILTER (WHERE s.status IN ('PENDING', 'EVALUATING')) AS open,
           count(*) FILTER (WHERE s.status = 'SCORED') AS scored,
           count(*) FILTER (WHERE s.status = 'REJECTED') AS rejected,
           avg(s.final_score) FILTER (WHERE s.status = 'SCORED') AS mean_score
    FROM prompts p LEFT JOIN submissions s ON s.prompt_id = p.id
    WHERE CAST(:category AS text) IS NULL OR p.category = :category
    GROUP BY p.id ORDER BY p.category, submissions DESC, p.id
""")


@dataclass(frozen=True)
class Loaded:
    id: str
    is_new: bool


@dataclass(frozen=True)
class PromptStats:
    id: str
    category: str
    submissions: int
    open: int
    scored: int
    rejected: int
    # of the scored ones
    mean_score: float | None


def list_prompts(which: PromptFilter, limit: int | None = None) -> list[Prompt]:
    """The prompts in the order of their ids; all of them without a `limit`."""
    return fetch_all(Prompt, _LIST, **vars(which), limit=limit)


def get_list_version(which: PromptFilter) -> ListVersion:
    version = fetch_one(ListVersion, _LIST_VERSION, **vars(which))
    assert version is not None
    return version


def find_prompt(id: str) -> Prompt | None:
    return fetch_one(Prompt, _FIND, id=id)


def list_categories() -> list[CategoryCount]:
    return fetch_all(CategoryCount, _CATEGORIES)


def insert_prompt(values: dict[str, Any]) -> bool:
    """Insert a prompt; False if its id is taken."""
    return bool(execute(_INSERT, **values | {"requirements": json.dumps(values["requirements"])}))


def update_prompt(id: str, changes: dict[str, Any]) -> bool:
    """Set the columns named in `changes`; False if there is no such prompt."""
    names = ("is_active", "weight", "requirements", "expires_at")
    binds = {name: changes.get(name) for name in names} | {f"set_{name}": name in changes for name in names}
    if binds["set_requirements"]:
        binds["requirements"] = json.dumps(binds["requirements"])
    return bool(execute(_UPDATE, id=id, **binds))


def load_prompts(prompts: list[dict[str, Any]], update: bool) -> list[Loaded]:
    """Insert prompts and, if `update`, change those that exist; returns the ones that were written."""
    return fetch_all(Loaded, _LOAD, prompts=json.dumps(prompts, default=str), update=update)


def list_stats(category: str | None) -> list[PromptStats]:
    return fetch_all(PromptStats, _STATS, category=category)
