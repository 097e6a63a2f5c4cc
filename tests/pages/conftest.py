import json
from io import BytesIO

import pytest
from PIL import Image

from app.assessment.report import Report
from app.db import db
from tests.factories import insert, make_cycle, make_prompt, make_result, make_submission, miner

# what somebody writes who hopes that a page takes it for markup
MARKUP = '<script>alert(1)</script> <a href="https://evil.example">free</a> "><img src=x onerror=alert(2)>'
# and who hopes that it runs out of its place, or turns its surroundings around
WILD = f"\u202e\u2066\x1b[31m\x85{'W' * 60}ß{'m' * 200}\u202d שלום مرحبا {MARKUP}"


def make_sheet():
    written = BytesIO()
    Image.new("RGB", (960, 405), "teal").save(written, "WEBP")
    return written.getvalue()


SHEET = make_sheet()


def make_report(**parts):
    """A verification report with every part that a page shows."""
    report = {
        "report_version": 2,
        "video": {
            "format": "mov,mp4",
            "codec": "h264",
            "stream": 0,
            "width": 640,
            "height": 480,
            "rotation": 0,
            "size_bytes": 500_000,
            "duration": 10.0,
            "declared_duration": 10.0,
            "fps": 25.0,
            "frames": 250,
            "keyframes": 5,
        },
        "technical": {
            "score": 0.8333,
            "checks": [
                {
                    "name": "readable",
                    "passed": True,
                    "value": 1.0,
                    "threshold": 0.95,
                    "weight": 1.0,
                    "reason": None,
                },
                {
                    "name": "resolution",
                    "passed": False,
                    "value": "640x272",
                    "threshold": "at least 480x360",
                    "weight": 1.0,
                    "reason": "The picture of 640x272 is smaller than 480x360.",
                },
            ],
        },
        "measures": {
            "frames": 80,
            "black": 0,
            "frozen": 0,
            "blurred": 0.2,
            "badly_exposed": 0,
            "mean_brightness": 0.5,
            "mean_blur": 0.3,
            "mean_motion": 0.2,
            "motion_peak": 0.9,
            "cuts": [4.0],
            "damaged": 0,
            "spans": [
                {"kind": "blurred", "start": 3.0, "end": 4.6},
                {"kind": "blurred", "start": 8.0, "end": 8.4},
                {"kind": "frozen", "start": 0.5, "end": 1.5},
                {"kind": MARKUP, "start": 0.0, "end": 9.0},
            ],
        },
        "quality": {
            "score": 0.93,
            "deductions": [
                {
                    "name": "blurred",
                    "value": 0.2,
                    "threshold": 0.1,
                    "factor": 0.7,
                    "points": 0.07,
                    "reason": "20% of the video is blurred, from 3.0 s on; 10% is allowed. Clean the lens.",
                },
            ],
        },
        "keyframes": [{"seconds": 1.0, "sha256": "ab" * 32}, {"seconds": 9.0, "sha256": "cd" * 32}],
        "judge": {
            "action_match": 0.8,
            "perspective_correct": 0.9,
            "demonstration_quality": 0.7,
            "training_utility": 0.6,
            "reasoning": WILD,
            "on_screen_text": "",
            "addresses_judge": False,
            "model": f"a-judge {WILD}",
            "prompt_version": "judge-v1",
            "prompt_tokens": 1,
            "completion_tokens": 1,
            "raw": [],
        },
        "duplicates": {
            "compared": True,
            "matches": [
                {
                    "submission_uuid": "00000000-0000-0000-0000-000000000001",
                    "share": 0.4,
                    "counts": True,
                    "spans": [
                        {"start": 2.0, "end": 6.0, "other_start": 0.0, "other_end": 4.0, "mirrored": True}
                    ],
                }
            ],
        },
    }
    return Report.read(report | parts).dump()


@pytest.fixture
def story(app):
    with app.app_context():
        return tell_story()


def tell_of_releases(*submissions):
    """Insert a release that is complete, one that was withdrawn, one being built, and a failed one."""
    figures = {
        "episodes": 2,
        "hours": 0.3,
        "bytes": 123_456_789,
        "miners": 2,
        "by_category": {"manipulation": 2},
        "hours_by_category": {"manipulation": 0.3},
        "by_split": {"train": 2},
        "by_licence": {"CC-BY-4.0": 2},
    }
    complete = {
        "state": "COMPLETE",
        "completed_at": "2026-01-02",
        "manifest_sha256": "ab" * 32,
        "figures": figures,
        "card": f"# kitchen-1\n\n{WILD}",
    }
    films = [
        insert("release_films", "id", submission_id=id, source_sha256=f"{id:064x}", recipe="h264")
        for id in submissions
    ]
    for name, values in {
        "kitchen-1": complete,
        "withdrawn": complete,
        "building": {"chosen": 2, "rules": {"min_score": 0.7, "first_cycle": 1, "last_cycle": 2}},
        "failed": {"state": "FAILED", "failure": WILD},
    }.items():
        defaults = {"rules": {}, "formats": ["lerobot", "parquet"], "recipe": "h264", "software": {}}
        id = insert("releases", "id", name=name, **defaults | {"chosen": 2} | values)
        for number, submission in enumerate(submissions):
            place = {"index": number, "task_index": 0} if name in ("kitchen-1", "withdrawn") else {}
            if name == "withdrawn" or number:
                insert(
                    "release_episodes",
                    release_id=id,
                    submission_id=submission,
                    split="train",
                    final_score=0.8,
                    licence="CC-BY-4.0",
                    film_id=films[number],
                    **place,
                )
    insert("takedowns", submission_id=submissions[0], delete_at=None)


def tell_story():
    """Insert a completed cycle, one that is evaluated and one that runs. Return uuids and hotkeys by name."""
    prompt = make_prompt(id="mug", scenario=WILD, task=WILD[:200], requirements={"min_fps": 24})
    make_prompt(id="retired", is_active=False)
    names = {"ada": miner("ada").ss58_address, "bob": miner("bob").ss58_address}
    first = make_cycle("COMPLETED")
    for rank, (name, hotkey) in enumerate(list(names.items())):
        scored = make_result(
            0.8 - rank / 10, cycle_id=first, prompt_id=prompt, miner_uid=rank, miner_hotkey=hotkey
        )
        insert("verification_reports", submission_id=scored, report=make_report())
        insert(
            "miner_scores",
            cycle_id=first,
            miner_uid=rank,
            miner_hotkey=hotkey,
            total_submissions=2,
            accepted_submissions=1,
            avg_score=0.8 - rank / 10,
            total_score=0.8 - rank / 10,
            scores_by_category=json.loads('{"manipulation": 0.8}'),
            holds_uid=True,
        )
        insert("computed_weights", cycle_id=first, miner_uid=rank, weight=0.5, weight_u16=32_767 + rank)
        names[f"{name}'s"] = scored
    second = make_cycle("EVALUATING")
    rejected = make_result(status="REJECTED", cycle_id=second, prompt_id=prompt, miner_hotkey=names["ada"])
    insert(
        "corrections",
        submission_id=rejected,
        kind="review",
        status="SCORED",
        final_score=0.5,
        points_change=5000,
        accepted_change=1,
        reason=WILD,
        decided_by=f"Grace {WILD}"[:100],
        cycle_id=second,
        is_late=False,
    )
    third = make_cycle()
    waiting = make_submission(
        cycle_id=third,
        prompt_id=prompt,
        miner_hotkey=names["ada"],
        last_fault=WILD,
        attempts=1,
        faults=1,
    )
    held = make_submission(prompt_id=prompt, miner_hotkey=names["bob"], held_at="now()")
    insert("reviews", submission_id=held, reason=f"No judge could answer. {WILD}")
    tell_of_releases(names["bob's"], names["ada's"])
    ids = {"scored": names["ada's"], "rejected": rejected, "waiting": waiting, "held": held}
    for name, id in ids.items():
        names[name] = str(
            db.session.execute(db.text(f"SELECT uuid FROM submissions WHERE id = {id}")).scalar()
        )
    db.session.rollback()
    return names
