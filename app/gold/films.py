"""How a gold film is added: checked as a miner's is, and stored as copies of different bytes.

Apart from the other rules: only a command needs this, and no web process shall carry the engine about.
"""

import hashlib
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from uuid import uuid4

from app.assessment import formula, pipeline
from app.assessment.model import Brief
from app.clients.storage import Storage
from app.config import Settings
from app.db import db
from app.enums import SubmissionStatus
from app.errors import Conflict
from app.gold import queries
from app.gold.models import Copy, HumanScores
from app.prompts import service as prompts
from app.video import remux
from app.video.ffmpeg import MediaFault
from app.video.probe import Probe, probe

PREFIX = "gold/"
# Each copy is a frame shorter than the one before. No more of a film than this may be missing.
MOST_CUT = 0.1


def add(
    file: Path,
    prompt_id: str,
    scores: HumanScores,
    accepted: bool | None,
    scored_by: str,
    copies: int,
    settings: Settings,
    storage: Storage,
    tell: Callable[[str], None] = lambda line: None,
) -> None:
    """Add a film with people's scores, or more copies of one that is there.

    `accepted` is None where people's scores decide by the gates. Raises NotFound for an unknown prompt, and
    Conflict for a film that cannot be used: the evaluation would reject it without a judge, it is too short
    for so many copies, or it is there with other scores.
    """
    prompt = prompts.get_prompt(prompt_id)
    relevance = formula.relevance_score(**asdict(scores))
    if accepted is None:
        verdict = formula.verdict(
            1, relevance, 1, min_relevance=settings.min_relevance, action_match=scores.action_match
        )
        accepted = verdict.status == SubmissionStatus.SCORED
    with file.open("rb") as opened:
        video_hash = hashlib.file_digest(opened, "sha256").hexdigest()
    known = _list_known_copies(prompt_id, video_hash, scores)
    if uuid := queries.find_submitted(video_hash):
        tell(f"Warning: it was submitted as {uuid}, so whoever evaluated that can recognise it.")
    db.session.rollback()

    made = []
    brief = Brief(prompt.category, prompt.task, prompt.scenario, prompt.requirements)
    try:
        times = _check_room(file, copies, known)
        with tempfile.TemporaryDirectory() as directory:
            reason = pipeline.evaluate_file(file, brief, None, Path(directory)).rejection_reason
            if reason:
                raise Conflict(f"The evaluation would reject this film without asking a judge: {reason}")
            for path, copy in _make_copies(file, times, copies, known, Path(directory)):
                storage.put_file(copy.object_key, path, copy.content_type)
                made.append(copy)
                tell(f"Copy {len(made)} of {copies} is stored.")
    except MediaFault as fault:
        raise Conflict(f"The film cannot be used: {fault}") from fault

    queries.lock()
    known = _list_known_copies(prompt_id, video_hash, scores)
    film_id = queries.find_film_id(prompt_id, video_hash)
    if film_id is None:
        film_id = queries.insert_film(prompt_id, video_hash, scores, relevance, accepted, scored_by)
    for copy in made:
        if copy.video_hash not in known:
            queries.insert_copy(film_id, copy)
    db.session.commit()


def _list_known_copies(prompt_id: str, video_hash: str, scores: HumanScores) -> set[str]:
    """The hashes of the copies of a film that is there; raise Conflict if it is there with other scores."""
    film_id = queries.find_film_id(prompt_id, video_hash)
    if film_id is None:
        return set()
    if queries.get_scores(film_id) != scores:
        raise Conflict(
            "This film is there for this prompt with other scores; retire it first: kibotos gold retire."
        )
    return queries.list_copy_hashes(film_id)


def _check_room(file: Path, wanted: int, known: set[str]) -> tuple[float, ...]:
    """Return the times of the frames if so many more copies can be made of the film, or raise Conflict."""
    if file.suffix.lower() not in remux.MUXERS:
        raise Conflict(f"The name of the file must end in one of {', '.join(remux.MUXERS)}.")
    times = probe(file).times
    room = max(0, int(len(times) * MOST_CUT) - len(known))
    if wanted > room:
        raise Conflict(
            f"A film of {len(times)} frames has room for {room} more copies, not for {wanted}; "
            "give a smaller --copies, or take a longer film."
        )
    return times


def _make_copies(
    file: Path, times: tuple[float, ...], wanted: int, known: set[str], directory: Path
) -> Iterator[tuple[Path, Copy]]:
    """Make copies with bytes that are not `known`. Each file is gone when the next is made."""
    suffix = file.suffix.lower()
    made: set[str] = set()
    for cut in range(1, int(len(times) * MOST_CUT) + 1):
        place = directory / str(cut)
        place.mkdir()
        path = place / f"copy{suffix}"
        remux.shorten(file, path, times[-cut] - times[0])
        with path.open("rb") as opened:
            video_hash = hashlib.file_digest(opened, "sha256").hexdigest()
        if video_hash not in known | made:
            made.add(video_hash)
            yield path, _describe(probe(path), video_hash, remux.MUXERS[suffix][1])
        path.unlink()
        if len(made) == wanted:
            return
    raise Conflict(f"Only {len(made)} different copies of this film can be made; give a smaller --copies.")


def _describe(probed: Probe, video_hash: str, content_type: str) -> Copy:
    """What is known of a copy; it declares what a miner's program declares."""
    return Copy(
        object_key=f"{PREFIX}{uuid4()}",
        content_type=content_type,
        video_hash=video_hash,
        duration_sec=round(probed.duration, 3),
        resolution_width=probed.width,
        resolution_height=probed.height,
        fps=round(probed.fps, 3),
    )
