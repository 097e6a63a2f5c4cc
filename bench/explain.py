"""The plans of the hottest statements, as they ran on the full database; what they wrote is rolled back."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import text

from app.config import Settings
from app.db import command_app, db
from app.evaluation import queries as evaluation
from app.prompts import queries as prompts
from app.submissions import queries as submissions
from app.weights import queries as weights


def write_all(settings: Settings, directory: Path, cycle_id: int) -> None:
    """Write a file a statement into `directory`."""
    with command_app(settings).app_context():
        _write_all(settings, directory, cycle_id)


def _write_all(settings: Settings, directory: Path, cycle_id: int) -> None:
    row = db.session.execute(
        text("SELECT miner_hotkey, miner_uid, prompt_id, uuid FROM submissions WHERE cycle_id = :id LIMIT 1"),
        {"id": cycle_id},
    ).one()
    db.session.execute(
        text("INSERT INTO uploads (video_key, content_type, expires_at) VALUES ('new', 'video/mp4', :later)"),
        {"later": datetime.now(UTC) + timedelta(hours=1)},
    )
    new = {
        "prompt_id": row.prompt_id,
        "video_key": "new",
        "video_hash": "ab" * 32,
        "miner_uid": row.miner_uid,
        "miner_hotkey": row.miner_hotkey,
        "signature": None,
        "duration_sec": 10,
        "resolution_width": 1280,
        "resolution_height": 720,
        "fps": 30,
        "camera_type": "ego_head",
        "actor_type": "human",
        "camera_intrinsics": None,
        "robot_model": None,
        "environment": None,
        "action_description": None,
        "task_success": None,
    }
    new |= dict.fromkeys(("licence", "consent_hash", "consent_version", "consent_date"))
    names = ("video_key", "video_hash", "prompt_id", "miner_uid", "miner_hotkey")
    admission = {name: new[name] for name in names}
    admission |= {"quota": settings.max_submissions_per_hour, "netuid": None}
    statements: dict[str, tuple[str, dict[str, Any]]] = {
        "claim": (
            evaluation._CLAIM,
            {
                "limit": 5,
                "claimed_by": "bench",
                "lease_seconds": 600,
                "needs": ["storage"],
                "is_remote": True,
                "probing": False,
            },
        ),
        "admission": (submissions._ADMISSION, admission),
        "insert_submission": (submissions._INSERT_SUBMISSION, new | admission),
        "aggregate_cycle": (weights._LIST_CURRENT.text, {"cycle_id": cycle_id}),
        "find_submission": (submissions._FIND.text, {"uuid": row.uuid}),
        "list_prompts": (
            prompts._LIST.text,
            {"category": None, "active_only": True, "limit": 100, "after": None},
        ),
    }
    directory.mkdir(exist_ok=True)
    for name, (statement, binds) in statements.items():
        explained = text(f"EXPLAIN (ANALYZE, BUFFERS, COSTS OFF) {statement}")
        plan = db.session.execute(explained, binds).scalars().all()
        (directory / f"{name}.txt").write_text("\n".join(plan) + "\n")
    db.session.rollback()
