"""What is remembered of a video that was taken down before anybody had looked at it.

Without its fingerprint only its hash would keep it from coming back, and any other encoding has another hash.
"""

import tempfile
from pathlib import Path

import structlog

from app.assessment import pipeline, technical
from app.assessment.model import Brief
from app.clients.storage import Storage
from app.db import autocommit, db
from app.duplicates import service as duplicates
from app.errors import TransientError, Unavailable
from app.moderation import queries
from app.moderation.queries import Unknown
from app.video.download import download
from app.video.ffmpeg import MediaFault

log = structlog.get_logger(__name__)

# the address is used at once; a large file takes its time
_URL_SECONDS = 900


def recognise_next(storage: Storage, workdir: Path) -> bool:
    """Remember the footage of a video that was taken down; False if there is none that is unknown.

    Nothing is judged. After a fault of ours it is tried again some hours later, until the object is deleted.
    """
    with autocommit():
        unknown = queries.claim_unknown()
    if unknown is None:
        return False
    try:
        _recognise(unknown, storage, workdir)
    except MediaFault as fault:
        # what cannot be decoded shows nothing that could come back
        log.info("not_recognised", submission_id=unknown.submission_id, reason=str(fault))
    except (TransientError, Unavailable) as fault:
        log.warning("not_recognised", submission_id=unknown.submission_id, reason=str(fault))
        return True
    queries.note_recognised(unknown.submission_id)
    db.session.commit()
    return True


def _recognise(unknown: Unknown, storage: Storage, workdir: Path) -> None:
    brief = Brief(unknown.category, unknown.task, unknown.scenario, unknown.requirements)
    with tempfile.TemporaryDirectory(prefix="recognition-", dir=workdir) as directory:
        path = Path(directory) / "video"
        url = storage.presign_get(unknown.video_key, _URL_SECONDS, public=False)
        download(url, path, technical.largest_file(unknown.requirements), lambda: None)
        outcome = pipeline.evaluate_file(path, brief, None, Path(directory))
    duplicates.remember_footage(unknown.submission_id, outcome.fingerprint, outcome.features)
