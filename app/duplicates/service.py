"""Is a video new? The same bytes, the same footage, pieces of one recording, the same scene over and over.

A video is compared with all judged videos that were submitted before it, of all miners and cycles. So its
score depends on what was submitted, and in which order. The order of evaluation does not matter. If an
earlier video is evaluated later, the video is compared again and its result is corrected.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from app.assessment import formula
from app.assessment.model import Claim, Outcome
from app.assessment.report import DuplicatesPart, MatchPart, SameScenePart, SpanPart
from app.corrections import queries as corrections
from app.corrections import service as correcting
from app.corrections.models import Decision
from app.duplicates import geometry, matching, queries, support
from app.duplicates.matching import Fingerprint, Match
from app.duplicates.queries import HashAssertion, Known, Recent, Stored, Subject
from app.enums import CorrectionKind, SubmissionStatus
from app.video import features as packing
from app.video.features import Features
from app.video.frames import FrameHash

# the likeliest videos, and as many of the first, are compared with in full
COMPARED = 10
# of so many that share most features, with a quarter as many of the first, corners are looked at; so many are
# read at once
LOOKED_AT = 100
READ_AT_ONCE = 20
# those that are remembered while a video is compared have to share so many, as in schema.sql
MIN_SHARED_FEATURES = 2
# and so many that most corners speak for are compared with in full, with the first of those not far behind
COMPARED_BY_FEATURES = 3
# lines through other videos that are tried for one video, and once more through those that were recorded
# meanwhile, so that none takes long to judge: an honest one takes a few. What is shown inside of its picture
# has as many of its own.
MAX_LINES = 60
# the miner's own window: so many of his last videos within so many hours
WINDOW = 20
WINDOW_HOURS = 24
# takes of one scene in the window that cost nothing, what each further one costs, and the most they can
FREE_TAKES = 2
TAKE_DEDUCTION = 0.1
MAX_TAKES_DEDUCTION = 0.5
# of what was taken down, so many seconds or such a share of a video are too much
TAKEN_DOWN_SECONDS = 2.0
TAKEN_DOWN_SHARE = 0.2


@dataclass(frozen=True)
class Originality:
    """The findings: `quality_factor` in [0, 1], why the video is rejected (or None), and the report."""

    quality_factor: float
    rejection_reason: str | None
    report: DuplicatesPart

    @property
    def of_known_footage(self) -> bool:
        """Whether the video was rejected for known footage in other bytes."""
        return self.rejection_reason is not None and self.report.same_file is None

    def applied_to(self, outcome: Outcome) -> Outcome:
        """Return `outcome` with the quality, reason and report that follow from this."""
        return replace(
            outcome,
            quality_score=outcome.quality_score * self.quality_factor,
            rejection_reason=self.rejection_reason or outcome.rejection_reason,
            report=outcome.report.model_copy(update={"duplicates": self.report}),
        )


@dataclass(frozen=True)
class Comparison:
    """A video whose bytes were verified, under comparison: what it is remembered by, and whom it concerns.

    `later` are scored videos that were submitted after it and may show its footage. `unverified` are scored
    videos of other miners with the same hash assertion, whose own bytes nobody verified.
    """

    subject: Subject
    plain: Fingerprint
    mirrored: Fingerprint
    stored: Stored
    originality: Originality
    later: tuple[int, ...] = ()
    unverified: tuple[int, ...] = ()


@dataclass(frozen=True)
class _Sought:
    """A video that is looked for among others: its fingerprints, and the keys by which it is looked up."""

    plain: Fingerprint
    mirrored: Fingerprint
    features: Features | None

    @cached_property
    def insets(self) -> list[tuple[Fingerprint, Fingerprint]]:
        """The fingerprints of what is shown inside of the video's picture, and of its mirror images."""
        return [matching.fingerprints(inset) for inset in self.features.insets] if self.features else []

    @cached_property
    def keys(self) -> list[int]:
        return matching.wanted_keys(self.plain, self.mirrored)

    @cached_property
    def keys_inside(self) -> list[int]:
        return matching.keys_of_insets(self.insets)

    @cached_property
    def keys_of_features(self) -> list[int]:
        return geometry.keys(self.features, geometry.WANTED_KEYS) if self.features else []


NOT_COMPARED = Originality(1.0, None, DuplicatesPart(compared=False))


def compare(claim: Claim, outcome: Outcome) -> Comparison | Originality:
    """Compare the video of `claim` with all that came before it.

    Runs in the transaction that records the result. It holds up other results of the same miner from the
    start, and all others only from when it has compared, so that what both are about to remember is seen by
    one of them. If the bytes are not verified, only the hash assertion is compared.
    """
    # only evaluators of ours say what bytes they saw
    if outcome.report.verified_sha256 is None:
        return _judge_assertion(claim)
    if outcome.report.verified_sha256 != claim.video_hash:
        return NOT_COMPARED
    subject = queries.get_subject(claim.id)
    queries.lock_miner(subject.miner_hotkey)
    plain, mirrored = matching.fingerprints(outcome.fingerprint)
    features = packing.unpack(outcome.features) if outcome.features else None
    sought = _Sought(plain, mirrored, features)
    latest = queries.find_latest()
    found, own = _look(subject, sought)
    later = set(queries.list_later(sought.keys, subject, COMPARED))
    later |= set(queries.list_own_later(subject, WINDOW_HOURS, WINDOW))
    if features:
        ids = queries.list_later_sharing_features(sought.keys_of_features, subject, LOOKED_AT)
        later |= set(_likeliest(features, ids))
    stored = _stored(plain, features)
    recent = queries.lock_memory_and_list_since(latest)
    found = _look_at_recent(subject, sought, found, recent)
    later |= _list_recent_later(subject, sought, recent)
    assertions = queries.list_hash_assertions(claim.video_hash)
    same_file = _find_same_file(assertions, subject)
    return Comparison(
        subject,
        plain,
        mirrored,
        stored,
        same_file or conclude(subject.miner_hotkey, plain, found, own, with_takedowns=not claim.is_appeal),
        tuple(sorted(later)),
        () if same_file else tuple(each.submission_id for each in assertions if not each.verified),
    )


def find_known(
    submission_id: int, frames: tuple[FrameHash, ...], features: bytes, *, is_appeal: bool
) -> str | None:
    """Why a video whose bytes were verified would be rejected now for known footage, or None.

    This is the precheck, before the judge is paid. Nobody waits for it. Known footage only grows, so the
    final result is the same.
    """
    subject = queries.get_subject(submission_id)
    same_file = _find_same_file(queries.list_hash_assertions(subject.video_hash), subject)
    if same_file:
        return same_file.rejection_reason
    plain, mirrored = matching.fingerprints(frames)
    unpacked = packing.unpack(features) if features else None
    found, own = _look(subject, _Sought(plain, mirrored, unpacked))
    found_out = conclude(subject.miner_hotkey, plain, found, own, with_takedowns=not is_appeal)
    return found_out.rejection_reason


def _look_at_recent(
    subject: Subject, sought: _Sought, found: list["Compared"], recent: list[Recent]
) -> list["Compared"]:
    """Return what `_look` found, and what it would have found in the videos remembered since."""
    before = [each for each in recent if each.counts_against(subject)]
    seen = {each.video.submission_id for each in found}
    sharing = [each for each in _sharing(before, sought.keys) if each.submission_id not in seen]
    found = [*found, *match_all(subject.miner_hotkey, sought.plain, sought.mirrored, sharing)]
    found = _merged(found, match_insets(sought.plain, sought.insets, _sharing(before, sought.keys_inside)))
    if sought.features:
        ids = _sharing_features(before, sought.keys_of_features)
        found = _merged(found, _match_likeliest(sought.plain, sought.features, ids))
    return found


def _list_recent_later(subject: Subject, sought: _Sought, recent: list[Recent]) -> set[int]:
    """Of the videos remembered since, those that came after the subject and may show its footage."""
    later = [each for each in recent if each.is_later(subject)]
    found = {each.submission_id for each in _sharing(later, sought.keys)}
    if sought.features:
        found |= set(_likeliest(sought.features, _sharing_features(later, sought.keys_of_features)))
    return found


def _sharing(videos: list[Recent], keys: list[int]) -> list[Recent]:
    """Those of the videos that have any of the keys."""
    wanted = frozenset(keys)
    return [each for each in videos if not wanted.isdisjoint(each.keys)]


def _sharing_features(videos: list[Recent], keys: list[int]) -> list[int]:
    """Of the videos, the ids of those that share most features."""
    wanted = frozenset(keys)
    shared = {each.submission_id: len(wanted.intersection(each.feature_keys)) for each in videos}
    sharing = [id for id, count in shared.items() if count >= MIN_SHARED_FEATURES]
    return sorted(sharing, key=lambda id: -shared[id])[:LOOKED_AT]


def _look(subject: Subject, sought: _Sought) -> tuple[list["Compared"], list[Known]]:
    """Compare with the likeliest videos before `subject` and with its miner's own last; return those too."""
    own = queries.list_own(subject, WINDOW_HOURS, WINDOW)
    # the likeliest first
    sharing = queries.list_sharing(sought.keys, subject, COMPARED)
    videos = {each.submission_id: each for each in [*sharing, *own]}
    found = match_all(subject.miner_hotkey, sought.plain, sought.mirrored, videos.values())
    if sought.insets:
        # by a list of their own, so that what is inside hides no original of the whole
        sharing = queries.list_sharing(sought.keys_inside, subject, COMPARED)
        videos = {each.submission_id: each for each in [*sharing, *own]}
        found = _merged(found, match_insets(sought.plain, sought.insets, videos.values()))
    if sought.features:
        found = _merged(found, _look_by_features(subject, sought, sought.features, found))
    return found, own


def _look_by_features(
    subject: Subject, sought: _Sought, features: Features, found: list["Compared"]
) -> list["Compared"]:
    """Return what is found in the videos that share most features, unless enough was found without them."""
    known = frozenset[int]().union(*(each.match.frames for each in found))
    if len(known) > formula.MAX_MATCHED * len(sought.plain):
        return []
    ids = queries.list_sharing_features(sought.keys_of_features, subject, LOOKED_AT)
    return _match_likeliest(sought.plain, features, ids)


def _match_likeliest(plain: Fingerprint, features: Features, ids: list[int]) -> list["Compared"]:
    """Compare by features with the likeliest of these videos."""
    if not ids:
        return []
    videos = queries.list_known(_likeliest(features, ids))
    return [each for video in videos if (each := match_features(plain, features, video))]


def _likeliest(features: Features, ids: list[int]) -> list[int]:
    """Of these videos, those to compare with in full: the ids of those that most corners speak for."""
    if not ids:
        return []
    sought, supports = support.Sought(features), dict[int, int]()
    for start in range(0, len(ids), READ_AT_ONCE):
        for each in queries.list_known(ids[start : start + READ_AT_ONCE]):
            if each.features:
                supports[each.submission_id] = sought.support(packing.unpack(bytes(each.features)))
    return support.likeliest(supports, COMPARED_BY_FEATURES)


def _merged(found: list["Compared"], more: list["Compared"]) -> list["Compared"]:
    """Each video once, with all that was found in it."""
    merged = {each.video.submission_id: each for each in found}
    for each in more:
        before = merged.setdefault(each.video.submission_id, each)
        merged[each.video.submission_id] = replace(before, match=before.match.joined(each.match))
    return list(merged.values())


def match_features(plain: Fingerprint, features: Features, video: Known) -> "Compared | None":
    """Compare with a known video by features; None if it does not show the same."""
    if not video.features:
        return None
    spans = geometry.match(features, packing.unpack(bytes(video.features)))
    frames = [
        index
        for index, seconds in enumerate(plain.seconds.tolist())
        if any(span.start <= seconds <= span.end for span in spans)
    ]
    if not frames:
        return None
    return Compared(video, Match(frozenset(frames), spans, 0), joint=None)


def _judge_assertion(claim: Claim) -> Originality:
    """Judge a video whose bytes nobody verified by the hash that its miner claims and signed.

    Whoever claimed it before and was scored counts, verified or not.
    """
    if claim.is_appeal:
        # what is decided of it may change what is remembered
        queries.lock_memory()
        known = queries.find_counting_assertion(claim.video_hash, claim.id)
    else:
        known = queries.lock_hash(claim.video_hash, claim.id)
    return _same_file(known, compared=False) if known else NOT_COMPARED


def _find_same_file(assertions: Iterable[HashAssertion], subject: Subject) -> Originality | None:
    """Reject verified bytes that were scored before. Another's unverified hash assertion does not count.

    So nobody makes the video of another fail by asserting its hash and taking that down.
    """
    for each in assertions:
        is_own = each.miner_hotkey == subject.miner_hotkey
        if each.is_banned or (each.place < subject.place and (each.verified or is_own)):
            return _same_file(each, compared=True)
    return None


def _same_file(known: HashAssertion, compared: bool) -> Originality:
    same = str(known.submission_uuid)
    reason = f"The same file was scored before, as submission {same}. Submit each recording once."
    if known.is_taken_down:
        reason = (
            f"This video was taken down, as submission {same}, and cannot come back. Film a new one; if it "
            "was taken down by mistake, ask the operator."
        )
    return Originality(0.0, reason, DuplicatesPart(compared=compared, same_file=same))


def remember(comparison: Comparison, judged: Outcome, status: SubmissionStatus) -> list[int]:
    """Keep the fingerprint of a video that was judged or rejected for known footage, and compare again.

    `judged` is its outcome before duplicates, `status` its result. Later videos that were scored without it
    are corrected. Returns the submissions that could not be corrected, so that a person should look at them.
    """
    subject = comparison.subject
    scored = status == SubmissionStatus.SCORED
    known_footage = comparison.originality.of_known_footage
    if not (scored or known_footage or judged.judge_model):
        return []
    later = set(comparison.later)
    if scored:
        # a later submission of the same file, which will be found to be that
        later |= {queries.forget_content(subject.video_hash) or subject.id} - {subject.id}
    only_prompt = None if scored or known_footage else subject.prompt_id
    queries.insert(subject, subject.video_hash if scored else None, comparison.stored, only_prompt)
    if scored:
        queries.insert_full(
            subject, comparison.plain, comparison.mirrored, judged.features, judged.quality_score
        )
    if not later:
        return []
    known = queries.find_known(subject.id)
    assert known is not None
    return [id for id in sorted(later) if not _compare_again(id, known, subject)]


def remember_appealed(comparison: Comparison) -> None:
    """Keep the fingerprint of a video that was evaluated anew, if the first evaluation kept none."""
    subject = comparison.subject
    if queries.find_known(subject.id) is None:
        queries.insert(subject, None, comparison.stored, subject.prompt_id)


def remember_footage(submission_id: int, frames: tuple[FrameHash, ...], features: bytes) -> None:
    """Keep the fingerprint of a video that was taken down unseen. It counts for every prompt."""
    plain, _ = matching.fingerprints(frames)
    stored = _stored(plain, packing.unpack(features) if features else None)
    queries.lock_memory()
    if queries.find_known(submission_id) is None and len(plain):
        queries.insert(queries.get_subject(submission_id), None, stored, only_prompt=None)


def _stored(plain: Fingerprint, features: Features | None) -> Stored:
    kept = features and packing.stored(features)
    return queries.stored(
        plain.thinned(),
        packing.pack(kept) if kept else None,
        geometry.keys(kept, geometry.STORED_KEYS) if kept else [],
    )


def follow(submission_id: int, status: SubmissionStatus) -> list[int]:
    """Let what is remembered of a video follow its corrected result, which now has this status.

    The caller holds the locks of memory and of corrections. Later videos that were scored while this one was
    rejected are corrected. Returns the submissions that could not be corrected, as `remember` does.
    """
    known = queries.find_known(submission_id)
    if known is None:
        # it was rejected before it was compared
        return []
    if status == SubmissionStatus.REJECTED:
        queries.set_content(submission_id, None)
        return []
    subject = queries.get_subject(submission_id)
    later = {queries.forget_content(subject.video_hash) or submission_id}
    queries.set_content(submission_id, subject.video_hash)
    if len(known.fingerprint):
        later |= set(queries.list_later(known.fingerprint.keys(), subject, COMPARED))
    if known.features:
        features = packing.unpack(bytes(known.features))
        wanted = geometry.keys(features, geometry.WANTED_KEYS)
        later |= set(_likeliest(features, queries.list_later_sharing_features(wanted, subject, LOOKED_AT)))
    later |= set(queries.list_own_later(subject, WINDOW_HOURS, WINDOW))
    return [id for id in sorted(later - {submission_id}) if not _compare_again(id, known, subject)]


def _compare_again(id: int, known: Known, cause: Subject) -> bool:
    """Correct the result of a scored video if it shows what is `known` of a video that came before it.

    False if its full fingerprint is no longer kept, or if a person decided its result.
    """
    subject = queries.get_subject(id)
    effective = corrections.find_effective(id)
    # by a takedown older releases rejected for good
    if subject.place < cause.place or effective is None or effective.kind == CorrectionKind.TAKEDOWN:
        return True
    compared = queries.find_compared(id)
    if compared is None:
        # scored before such were kept
        return not _may_be_copy(id, known)
    plain, mirrored = compared.fingerprints
    features = packing.unpack(bytes(compared.features)) if compared.features else None
    # what was banned since takes no points back
    before = [each for each in queries.list_hash_assertions(subject.video_hash) if each.place < subject.place]
    originality = _find_same_file(before, subject)
    if originality is None:
        (pair,) = match_all(subject.miner_hotkey, plain, mirrored, [known])
        sought = _Sought(plain, mirrored, features)
        by_insets = match_insets(plain, sought.insets, [known])
        is_take = known.miner_hotkey == subject.miner_hotkey and matching.shows_same_place(
            plain, known.fingerprint
        )
        by_features = match_features(plain, features, known) if features else None
        if not (pair.match.frames or pair.joint is not None or is_take or by_insets or by_features):
            return True
        found, own = _look(subject, sought)
        originality = conclude(subject.miner_hotkey, plain, found, own, with_takedowns=False)
    score, status = 0.0, SubmissionStatus.REJECTED
    if originality.rejection_reason is None:
        quality = compared.quality_score * originality.quality_factor
        score = formula.final_score(compared.technical_score, compared.relevance_score, quality)
        status = SubmissionStatus.SCORED
    if (effective.status, effective.final_score) == (status, score):
        return True
    if effective.decided_by not in (None, correcting.SYSTEM):
        return False
    reason = originality.rejection_reason or (
        f"A part of the video is known: submission {cause.submission_uuid} was first, though evaluated later."
    )
    evidence = {
        "submission": str(cause.submission_uuid),
        "duplicates": originality.report.model_dump(mode="json"),
    }
    decision = Decision(CorrectionKind.LATE_COPY, status, score, reason, correcting.SYSTEM, evidence)
    correcting.correct(id, decision)
    if status == SubmissionStatus.REJECTED:
        queries.forget_content(subject.video_hash)
    return True


def _may_be_copy(id: int, known: Known) -> bool:
    """Whether a video of which only the short form is kept shows footage of a `known` one, as it is."""
    short = queries.find_known(id)
    if short is None:
        return False
    if matching.match(short.fingerprint, short.fingerprint, known.fingerprint).frames:
        return True
    features = packing.unpack(bytes(short.features)) if short.features else None
    return features is not None and match_features(short.fingerprint, features, known) is not None


@dataclass(frozen=True)
class Compared:
    """What comparing with a known video in full gave."""

    video: Known
    match: Match
    # the second at which it goes on from another video of its miner
    joint: float | None


def match_all(
    hotkey: str, plain: Fingerprint, mirrored: Fingerprint, known: Iterable[Known]
) -> list[Compared]:
    """Compare with the known videos, in this order, while there are lines left to try."""
    found = []
    lines = MAX_LINES
    for video in known:
        stored = video.fingerprint
        match = matching.match(plain, mirrored, stored, lines)
        lines -= match.lines
        is_own = video.miner_hotkey == hotkey
        found.append(Compared(video, match, matching.joint(plain, stored, match) if is_own else None))
    return found


def match_insets(
    plain: Fingerprint, insets: Sequence[tuple[Fingerprint, Fingerprint]], known: Iterable[Known]
) -> list[Compared]:
    """Return those of the known videos that are shown inside of the video's picture.

    They are compared in this order, while there are lines left to try.
    """
    found = []
    lines = MAX_LINES
    for video in known:
        stored = video.fingerprint
        for inset in insets:
            match = matching.match_inset(inset, plain.seconds, stored, lines)
            lines -= match.lines
            if match.frames:
                found.append(Compared(video, match, joint=None))
    return _merged([], found)


def conclude(
    hotkey: str,
    plain: Fingerprint,
    found: list[Compared],
    own: Iterable[Known],
    *,
    with_takedowns: bool = True,
) -> Originality:
    """Decide on the video, by what was found in other videos and in the miner's own recent ones.

    `with_takedowns`: it is rejected if it shows what was taken down. What is scored already stays so.
    """
    matched: set[int] = set()
    matches = []
    whole_of: Compared | None = None
    gone: Compared | None = None
    for each in sorted(found, key=lambda each: each.video.submission_id):
        video = each.video
        if each.joint is not None and whole_of is None:
            whole_of = each
        if not each.match.frames:
            continue
        if gone is None and with_takedowns and video.is_taken_down and _is_much(each.match, len(plain)):
            gone = each
        matches.append(_show(video, each.match, len(plain)))
        matched |= each.match.frames
    # as the report has it, which tells later whether the video was rejected for it
    share = round(len(matched) / len(plain), 4) if len(plain) else 0.0
    takes = [video for video in own if video.is_take and matching.shows_same_place(plain, video.fingerprint)]
    deduction = min(MAX_TAKES_DEDUCTION, TAKE_DEDUCTION * max(0, len(takes) - FREE_TAKES))
    return Originality(
        quality_factor=(1 - share) * (1 - deduction),
        rejection_reason=_forbidden(gone) if gone else _reason(share, matches, whole_of),
        report=DuplicatesPart(
            compared=True,
            matched_share=share,
            matches=matches,
            one_recording_with=str(whole_of.video.submission_uuid) if whole_of else None,
            taken_down=str(gone.video.submission_uuid) if gone else None,
            same_scene=SameScenePart(
                hours=WINDOW_HOURS,
                submissions=[str(video.submission_uuid) for video in takes],
                free=FREE_TAKES,
                deduction=round(deduction, 4),
            ),
        ),
    )


def _is_much(match: Match, frames: int) -> bool:
    """Whether so much of a video is in another that it is no chance."""
    seconds = sum(span.end - span.start for span in match.spans)
    return seconds >= TAKEN_DOWN_SECONDS or len(match.frames) >= TAKEN_DOWN_SHARE * frames


def _forbidden(gone: Compared) -> str:
    return (
        f"From {gone.match.spans[0].start:.1f} s on it shows footage that was taken down, as submission "
        f"{gone.video.submission_uuid}. Leave it out or film anew; if it was taken down by mistake, ask the "
        "operator."
    )


def _reason(share: float, matches: list[MatchPart], whole_of: Compared | None) -> str | None:
    if share > formula.MAX_MATCHED:
        most = max(matches, key=lambda match: match.share)
        return (
            f"{share:.0%} of the video was submitted before; at most {formula.MAX_MATCHED:.0%} may be. Most "
            f"of it, from {most.spans[0].start:.1f} s on, is of submission {most.submission_uuid}. Film anew."
        )
    if whole_of:
        return (
            f"At {whole_of.joint:.1f} s the video goes on, without a cut, from or into your "
            f"submission {whole_of.video.submission_uuid}: both are of one recording. Submit each recording "
            "once, and uncut."
        )
    return None


def _show(video: Known, found: Match, frames: int) -> MatchPart:
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
    return MatchPart(submission_uuid=str(video.submission_uuid), share=share, counts=True, spans=spans)
