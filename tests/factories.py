"""Rows for tests, written straight into the database and committed; and miners with real keys."""

import functools
import itertools
import json
import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

from bittensor_core import Keypair
from sqlalchemy import TextClause, text

from app.db import db

_serial = itertools.count(1)


@functools.cache
def miner(name: str = "miner") -> Keypair:
    """The sr25519 keypair of that name: the same one each time."""
    return Keypair.create_from_uri(f"//{name}")


def insert(table: str, returning: str = "1", **values: Any) -> Any:
    """Insert one row, commit, and return the value of the column `returning`. Dicts become jsonb."""
    binds = {k: json.dumps(v) if isinstance(v, dict) else v for k, v in values.items()}
    columns, places = ", ".join(binds), ", ".join(f":{name}" for name in binds)
    statement = text(f"INSERT INTO {table} ({columns}) VALUES ({places}) RETURNING {returning}")
    value = db.session.execute(statement, binds).scalar_one()
    db.session.commit()
    return value


def make_prompt(**values: Any) -> str:
    """Insert a prompt and return its id."""
    defaults = {
        "id": f"prompt-{next(_serial)}",
        "category": "manipulation",
        "task": "grasp",
        "scenario": "Pick up a mug from a table using one hand",
    }
    return insert("prompts", "id", **defaults | values)


def make_cycle(status: str = "ACTIVE", started_at: datetime | None = None, **values: Any) -> int:
    """Insert a cycle of an hour and return its id; ACTIVE it began now, else it is over."""
    moment = datetime.now(UTC)
    started_at = started_at or moment - timedelta(hours=0 if status == "ACTIVE" else 2)
    ends_at = started_at + timedelta(hours=1)
    defaults = {"status": status, "started_at": started_at, "ends_at": ends_at}
    if status != "ACTIVE":
        defaults["closed_at"] = ends_at
    if status == "COMPLETED":
        defaults["completed_at"] = ends_at
    return insert("cycles", "id", **defaults | values)


def make_upload(**values: Any) -> str:
    """Insert a presigned upload and return its key; nothing is put into storage."""
    moment = datetime.now(UTC)
    defaults = {
        "video_key": f"uploads/{uuid.uuid4()}/video.mp4",
        "miner_hotkey": miner().ss58_address,
        "content_type": "video/mp4",
        "created_at": moment,
        "expires_at": moment + timedelta(hours=1),
    }
    return insert("uploads", "video_key", **defaults | values)


def make_submission(**values: Any) -> int:
    """Insert a submission, by default PENDING, with the prompt and the upload it needs, and return its id."""
    hotkey = values.get("miner_hotkey", miner().ss58_address)
    defaults: dict[str, Any] = {
        "prompt_weight": 1.0,
        "video_hash": uuid.uuid4().hex * 2,
        "miner_uid": 7,
        "miner_hotkey": hotkey,
        "signature": "ab" * 64,
        "duration_sec": 10.0,
        "resolution_width": 640,
        "resolution_height": 480,
        "fps": 30.0,
        "camera_type": "ego_head",
        "actor_type": "human",
    }
    if "prompt_id" not in values:
        defaults["prompt_id"] = make_prompt()
    if "requirements" not in values:
        find = text("SELECT requirements FROM prompts WHERE id = :id")
        id = values.get("prompt_id") or defaults["prompt_id"]
        defaults["requirements"] = db.session.execute(find, {"id": id}).scalar_one()
    if "video_key" not in values:
        defaults["video_key"] = make_upload(miner_hotkey=hotkey)
    return insert("submissions", "id", **defaults | values)


def make_result(final_score: float = 0.8, status: str = "SCORED", **values: Any) -> int:
    """Insert a submission with its result and return its id; REJECTED, its final score is 0.

    The evaluation's three scores all equal `final_score`, and so the formula gives it.
    """
    final_score = 0.0 if status == "REJECTED" else final_score
    id = make_submission(
        status=status, final_score=final_score, evaluated_at=datetime.now(UTC), attempts=1, **values
    )
    insert(
        "evaluations",
        submission_id=id,
        technical_score=final_score,
        relevance_score=final_score,
        quality_score=final_score,
        rejection_reason="The video does not show the requested task." if status == "REJECTED" else None,
        evaluated_by="worker",
    )
    return id


def tamper(submission_id: int, assignments: str) -> None:
    """Change a submission as only the owner of the table can, who switches its triggers off."""
    for statement in (
        "ALTER TABLE submissions DISABLE TRIGGER submissions_forward_only",
        f"UPDATE submissions SET {assignments} WHERE id = {submission_id}",
        "ALTER TABLE submissions ENABLE TRIGGER submissions_forward_only",
    ):
        db.session.execute(text(statement))
    db.session.commit()


def raise_in_sql(sqlstate: str) -> TextClause:
    """Return a statement that fails with this SQLSTATE, as the server itself does."""
    raise_it = f"RAISE EXCEPTION 'as if' USING ERRCODE = '{sqlstate}', DETAIL = 'of a row'"
    return text(f"DO $$ BEGIN {raise_it}; END $$")
