"""Lines of every kind, for property tests."""

from typing import get_type_hints

from hypothesis import strategies as st

from app.hotkeys import STATEMENT_1
from app.proofs.lines import KINDS, Correction, Line, SubmissionLine

CORRECTION = Correction(
    id=7,
    kind="review",
    status="SCORED",
    final_score="0.81",
    points_change=8100,
    accepted_change=1,
    reason="Shows the task.",
    decided_by="anna",
    decided_at="2026-11-26T17:00:00.000000Z",
)
SUBMISSION = SubmissionLine(
    uuid="0b9a2f6e-3a53-4c43-9d0c-1df0b0f2a001",
    hotkey="5FHneW46xGXgs5mUiveU4sbTyGBzmstUspZC92UhjJM694ty",
    uid=3,
    prompt_id="manip-001",
    prompt_weight="1.5",
    video_key="uploads/0b9a2f6e-3a53-4c43-9d0c-1df0b0f2a001/video.mp4",
    video_hash="ab" * 32,
    submitted_at="2026-11-26T16:00:00.000000Z",
    statement=STATEMENT_1,
    signature="cd" * 64,
    technical_score="1.0",
    relevance_score="0.7",
    quality_score="0.9",
    status="REJECTED",
    final_score="0.0",
    judge_model=None,
    prompt_version=None,
    report_hash=None,
    corrections=[CORRECTION],
    effective_status="SCORED",
    effective_score="0.81",
)
_TEXT = st.text(st.characters(codec="utf-8"), max_size=20)
_VALUES = {
    str: _TEXT,
    int: st.integers(),
    bool: st.booleans(),
    str | None: st.none() | _TEXT,
    int | None: st.none() | st.integers(),
    bool | None: st.none() | st.booleans(),
    Correction: st.just(CORRECTION),
    list[Correction]: st.lists(st.just(CORRECTION), max_size=2),
}


def _any(cls: type[Line]) -> st.SearchStrategy[Line]:
    hints = {name: hint for name, hint in get_type_hints(cls).items() if name != "kind"}
    return st.builds(cls, **{name: _VALUES[hint] for name, hint in hints.items()})


lines = st.one_of([_any(cls) for cls in KINDS.values()])
