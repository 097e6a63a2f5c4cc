"""The words of the contract that the database knows as well: a CHECK constraint lists each of them.

Light to import, for the command line.
"""

from enum import StrEnum


def values(words: type[StrEnum]) -> list[str]:
    """What click's Choice takes: it would offer the names of an enumeration's members."""
    return [word.value for word in words]


class Category(StrEnum):
    MANIPULATION = "manipulation"
    LOCOMOTION = "locomotion"
    NAVIGATION = "navigation"
    HOUSEHOLD = "household"
    INDUSTRIAL = "industrial"


class ContentType(StrEnum):
    MP4 = "video/mp4"
    WEBM = "video/webm"
    MOV = "video/quicktime"
    AVI = "video/x-msvideo"
    MKV = "video/x-matroska"


class CameraType(StrEnum):
    EGO_HEAD = "ego_head"
    EGO_CHEST = "ego_chest"
    EGO_WRIST = "ego_wrist"
    ROBOT_HEAD = "robot_head"
    ROBOT_WRIST = "robot_wrist"


class ActorType(StrEnum):
    HUMAN = "human"
    ROBOT = "robot"
    HUMAN_WITH_ROBOT = "human_with_robot"


class SubmissionStatus(StrEnum):
    PENDING = "PENDING"
    EVALUATING = "EVALUATING"
    SCORED = "SCORED"
    REJECTED = "REJECTED"


class CycleStatus(StrEnum):
    ACTIVE = "ACTIVE"
    EVALUATING = "EVALUATING"
    COMPLETED = "COMPLETED"


class MultipartState(StrEnum):
    """What became of an upload in parts."""

    OPEN = "OPEN"
    COMPLETED = "COMPLETED"
    ABORTED = "ABORTED"


class EvaluatedBy(StrEnum):
    # a job of ours, or an evaluator over HTTP
    WORKER = "worker"
    EVALUATOR = "evaluator"
    # in a review, of a video that could not be judged
    PERSON = "person"


class CorrectionKind(StrEnum):
    """What a correction of a result comes from."""

    LATE_COPY = "late_copy"
    REVIEW = "review"
    APPEAL = "appeal"
    TAKEDOWN = "takedown"
    OPERATOR = "operator"


class ReviewState(StrEnum):
    OPEN = "OPEN"
    ACCEPTED = "ACCEPTED"
    REJECTED = "REJECTED"
    JUDGED_AGAIN = "JUDGED_AGAIN"
    # the result stands as it is
    UPHELD = "UPHELD"


class AppealState(StrEnum):
    OPEN = "OPEN"
    IN_REVIEW = "IN_REVIEW"
    UPHELD = "UPHELD"
    OVERTURNED = "OVERTURNED"
    # without a decision: the video was taken down
    CLOSED = "CLOSED"


class WebhookEvent(StrEnum):
    """What a webhook tells of."""

    SUBMISSION_EVALUATED = "submission.evaluated"
    SUBMISSION_CORRECTED = "submission.corrected"
    SUBMISSION_TAKEN_DOWN = "submission.taken_down"
    APPEAL_DECIDED = "appeal.decided"
    CYCLE_COMPLETED = "cycle.completed"
    WEIGHTS_PUBLISHED = "weights.published"


class DeliveryState(StrEnum):
    """What became of a webhook's event."""

    PENDING = "PENDING"
    DELIVERED = "DELIVERED"
    FAILED = "FAILED"


class Codec(StrEnum):
    """What the films of a release are encoded in."""

    H264 = "h264"
    AV1 = "av1"


class Split(StrEnum):
    """The part of a data set that an episode belongs to for good, in the order of a release."""

    TRAIN = "train"
    VALIDATION = "validation"
    TEST = "test"


class DataFormat(StrEnum):
    """The forms in which a release holds its episodes."""

    LEROBOT = "lerobot"
    WEBDATASET = "webdataset"
    PARQUET = "parquet"


class ReleaseState(StrEnum):
    """How far a release is: its films are made, then its files are written."""

    FILMS = "FILMS"
    PARTS = "PARTS"
    COMPLETE = "COMPLETE"
    FAILED = "FAILED"


class FilmState(StrEnum):
    """What became of a film for releases."""

    PENDING = "PENDING"
    DONE = "DONE"
    FAILED = "FAILED"
    # the video was taken down
    DELETED = "DELETED"


class PartState(StrEnum):
    """What became of a file of a release."""

    PENDING = "PENDING"
    DONE = "DONE"
    FAILED = "FAILED"


class Dependency(StrEnum):
    """What an evaluation needs besides us: each has a circuit breaker."""

    STORAGE = "storage"
    VLM = "vlm"
