"""Is a video new? The same bytes, the same footage, pieces of one recording, the same scene over and over.

Videos are compared with the scored ones of all cycles. Of two miners who show the same footage the one who
submitted first keeps his score, whichever was evaluated first; a miner's own count whatever their order.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from uuid import UUID

from app.assessment.model import Claim, Outcome
from app.assessment.report import DuplicatesPart, MatchPart, SameScenePart, SpanPart
from app.duplicates import matching, queries
from app.duplicates.matching import Fingerprint, Match
from app.duplicates.queries import HashAssertion, Known

# share of a video that may be known before it is rejected
MAX_MATCHED = 0.8
# frames whose hashes are looked up, and the likeliest videos that are compared with in full
LOOKED_UP = 60
COMPARED = 10
# lines through other videos that are tried for one video, and once more through those that were recorded
# meanwhile, so that none takes long to judge: an honest one takes a few
MAX_LINES = 60
# the miner's own window: so many of his last videos within so many hours
WINDOW = 20
WINDOW_HOURS = 24
# takes of one scene in the window that cost nothing, what each further one costs, and the most they can
FREE_TAKES = 2
TAKE_DEDUCTION = 0.1
MAX_TAKES_DEDUCTION = 0.5


@dataclass(frozen=True)
class Originality:
    """What was found: `quality_factor` in [0, 1], why the video is rejected or None, and the report.

    `late_copies` are scored videos of other miners that show this video's footage and were submitted after
    it: nothing is taken from this one, and they are put up for review. So are `unverified_assertions`: scored
    videos of other miners that claim the hash of this one's bytes, while nobody looked at theirs.
    `fingerprint` is what this video, of `miner_hotkey`, is remembered by; None if nobody verified its bytes.
    """

    quality_factor: float
    rejection_reason: str | None
    report: DuplicatesPart
    late_copies: tuple[int, ...] = ()
    unverified_assertions: tuple[int, ...] = ()
    miner_hotkey: str = ""
    fingerprint: Fingerprint | None = None

    @property
    def of_known_footage(self) -> bool:
        """Whether the video was rejected for footage that is known, in other bytes."""
        return self.rejection_reason is not None and self.report.same_file is None

    def applied_to(self, outcome: Outcome) -> Outcome:
        """Return `outcome` with its quality, reason and report as they are in view of this."""
        return replace(
            outcome,
            quality_score=outcome.quality_score * self.quality_factor,
            rejection_reason=self.rejection_reason or outcome.rejection_reason,
            report=outcome.report.model_copy(update={"duplicates": self.report}),
        )


NOT_COMPARED = Originality(1.0, None, DuplicatesPart(compared=False))


def judge_originality(claim: Claim, outcome: Outcome) -> Originality:
    """Compare the video of `claim` with all scored ones.

    Runs in the transaction that records the result. It holds up other results of the same miner from the
    start, and all others only from when it has compared, so that what both are about to remember is seen by
    one of them. Without any word on the bytes only the claimed hash is compared.
    """
    # only evaluators of ours say what bytes they saw
    if outcome.report.verified_sha256 is None:
        return _judge_assertion(claim)
    if outcome.report.verified_sha256 != claim.video_hash:
        return NOT_COMPARED
    hotkey = queries.lock_miner(claim.id)
    if same := _find_same_file(queries.list_hash_assertions(claim.video_hash), hotkey):
        return same
    plain, mirrored = matching.fingerprints(outcome.fingerprint)
    keys = sorted({*plain.sampled(LOOKED_UP).keys(), *mirrored.sampled(LOOKED_UP).keys()})
    latest = queries.find_latest()
    own = queries.list_recent(hotkey, WINDOW_HOURS, WINDOW)
    # the likeliest first
    videos = {video.submission_id: video for video in [*queries.list_sharing(keys, COMPARED), *own]}
    found = compare(hotkey, plain, mirrored, videos.values())
    stored = plain.thinned()
    queries.lock_memory()
    claims = queries.list_hash_assertions(claim.video_hash)
    if same := _find_same_file(claims, hotkey):
        return same
    since = queries.list_sharing_since(keys, latest)
    found += compare(hotkey, plain, mirrored, [video for video in since if video.submission_id not in videos])
    originality = conclude(claim.id, hotkey, plain, found, own)
    unverified = tuple(each.submission_id for each in claims)
    return replace(originality, unverified_assertions=unverified, miner_hotkey=hotkey, fingerprint=stored)


def _judge_assertion(claim: Claim) -> Originality:
    """Judge a video whose bytes nobody verified by the hash that its miner claims and signed."""
    queries.lock_memory()
    scored = queries.list_hash_assertions(claim.video_hash)
    return (
        _same_file(scored[0], compared=False)
        if scored
        else Originality(1.0, None, DuplicatesPart(compared=False))
    )


def _find_same_file(claims: list[HashAssertion], hotkey: str) -> Originality | None:
    """Reject verified bytes that were scored. Another miner's mere claim to them does not count."""
    known = [each for each in claims if each.verified or each.miner_hotkey == hotkey]
    return _same_file(known[0], compared=True) if known else None


def _same_file(known: HashAssertion, compared: bool) -> Originality:
    same = str(known.submission_uuid)
    reason = f"The same file was scored before, as submission {same}; submit a recording once."
    return Originality(0.0, reason, DuplicatesPart(compared=compared, same_file=same))


def remember(claim: Claim, originality: Originality, scored: bool) -> None:
    """Keep the fingerprint of a video, so that later ones are compared with it.

    One that is not `scored` takes nothing from other miners' videos; but its miner's further pieces of the
    same recording are known by it.
    """
    if originality.fingerprint is not None:
        content_hash = claim.video_hash if scored else None
        queries.insert(claim.id, originality.miner_hotkey, content_hash, originality.fingerprint)


@dataclass(frozen=True)
class Found:
    """What comparing with a known video in full gave."""

    video: Known
    match: Match
    one_recording: bool


def compare(hotkey: str, plain: Fingerprint, mirrored: Fingerprint, known: Iterable[Known]) -> list[Found]:
    """Compare with those of the known videos that count, in this order, while there are lines left to try."""
    found = []
    lines = MAX_LINES
    for video in known:
        is_own = video.miner_hotkey == hotkey
        if is_own or video.scored:
            stored = video.fingerprint
            match = matching.match(plain, mirrored, stored, lines)
            lines -= match.lines
            found.append(Found(video, match, is_own and matching.one_recording(plain, stored, match)))
    return found


def conclude(
    submission_id: int, hotkey: str, plain: Fingerprint, found: list[Found], own: Iterable[Known]
) -> Originality:
    """Draw the conclusions from what was found in other videos and from the miner's own recent ones."""
    matched: set[int] = set()
    matches, late_copies = [], []
    whole_of: UUID | None = None
    for each in sorted(found, key=lambda each: each.video.submission_id):
        video = each.video
        if each.one_recording and whole_of is None:
            whole_of = video.submission_uuid
        if not each.match.frames:
            continue
        counts = video.miner_hotkey == hotkey or video.submission_id < submission_id
        matches.append(_show(video, each.match, len(plain), counts))
        if counts:
            matched |= each.match.frames
        else:
            late_copies.append(video.submission_id)
    share = len(matched) / len(plain) if len(plain) else 0.0
    takes = [video for video in own if video.scored and matching.shows_same_place(plain, video.fingerprint)]
    deduction = min(MAX_TAKES_DEDUCTION, TAKE_DEDUCTION * max(0, len(takes) - FREE_TAKES))
    return Originality(
        quality_factor=(1 - share) * (1 - deduction),
        rejection_reason=_reason(share, matches, whole_of),
        report=DuplicatesPart(
            compared=True,
            matched_share=round(share, 4),
            matches=matches,
            one_recording_with=str(whole_of) if whole_of else None,
            same_scene=SameScenePart(
                hours=WINDOW_HOURS,
                submissions=[str(video.submission_uuid) for video in takes],
                free=FREE_TAKES,
                deduction=round(deduction, 4),
            ),
        ),
        late_copies=tuple(late_copies),
    )


def _reason(share: float, matches: list[MatchPart], whole_of: UUID | None) -> str | None:
    if share > MAX_MATCHED:
        most = max((match for match in matches if match.counts), key=lambda match: match.share)
        return (
            f"{share:.0%} of the video was submitted before, most of it as {most.submission_uuid}; "
            "submit new footage."
        )
    if whole_of:
        return (
            f"The video is of the same recording as your submission {whole_of}; "
            "submit a recording once, and uncut."
        )
    return None


def _show(video: Known, found: Match, frames: int, counts: bool) -> MatchPart:
    spans = [
        SpanPart(
            start=round(span.start, 2),
            end=round(span.end, 2),
            other_start=round(span.other_start, 2),
            other_end=round(span.other_end, 2),
            mirrored=span.mirrored,
        )
        for span in found.spans
    ]
    share = round(len(found.frames) / frames, 4)
    return MatchPart(submission_uuid=str(video.submission_uuid), share=share, counts=counts, spans=spans)
