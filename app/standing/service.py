"""How a miner stands: its quotas, and what it would earn if the cycle ended now."""

import json
from math import ceil

from app.config import Settings
from app.standing import queries
from app.standing.models import CycleStandingOut, QuotaOut, StandingOut
from app.submissions.queries import get_quota_wait
from app.uploads.queries import get_upload_admission
from app.uploads.service import MAX_OPEN_MULTIPARTS
from app.web.kept import Kept
from app.weights.service import draft_shares

# One computation for all who ask within this time: it goes through the whole cycle.
SHARES_SECONDS = 15


def get_standing(hotkey: str, settings: Settings, kept: Kept) -> StandingOut:
    """Return how the miner stands now. A miner that never submitted anything stands at nothing."""
    miner = queries.get_miner(hotkey)
    submissions, uploads = settings.max_submissions_per_hour, settings.max_presigns_per_hour
    begun = get_upload_admission(hotkey, uploads, settings.netuid)
    cycle = None
    if miner.active_cycle_id is not None:
        cycle = CycleStandingOut(
            cycle_id=miner.active_cycle_id,
            submissions=miner.active_submissions,
            open=miner.active_open,
            accepted=miner.active_accepted,
            total_score=miner.active_total,
            share=_find_share(hotkey, miner.active_cycle_id, settings, kept),
        )
    return StandingOut(
        miner_hotkey=hotkey,
        uid=miner.registered_uid,
        submissions=_quota(submissions, miner.submitted_last_hour, get_quota_wait(hotkey, submissions)),
        uploads=_quota(uploads, miner.uploads_last_hour, begun.quota_wait_seconds),
        open_multiparts=begun.open_multiparts,
        max_open_multiparts=MAX_OPEN_MULTIPARTS,
        cycle=cycle,
    )


def _quota(limit: int, used: int, wait_seconds: float | None) -> QuotaOut:
    return QuotaOut(
        limit=limit, used=used, seconds_until_room=None if wait_seconds is None else ceil(wait_seconds)
    )


def _find_share(hotkey: str, cycle_id: int, settings: Settings, kept: Kept) -> float:
    def work_out() -> bytes:
        return json.dumps(draft_shares(cycle_id, settings.netuid is not None)).encode()

    return json.loads(kept.get(("shares", cycle_id), SHARES_SECONDS, work_out)).get(hotkey, 0.0)
