"""Checks of what evaluates a video: ffmpeg, what paints writing over, and the judge."""

import random
import tempfile
from pathlib import Path

from app.assessment.judge import MORE_ROOM, SIZES, Judge
from app.clients.vlm import Patience, Vlm
from app.clients.vlm_habits import TooMuch
from app.config import OFFLINE_MODEL, Settings
from app.doctor.findings import Amber, Red
from app.doctor.reach import reach
from app.errors import TransientError
from app.video import control, ffmpeg, painting

TOOLS = ("ffmpeg", "ffprobe")
# short, since a person waits for the answer
JUDGE_PATIENCE = Patience(attempts=2, attempt_seconds=120, seconds=30)


def check_ffmpeg() -> str:
    """Make a clip and evaluate it as a worker does: probe, decode, stills, in the sandbox."""
    try:
        with tempfile.TemporaryDirectory() as directory:
            control.check_tools(Path(directory))
        with ffmpeg.start("ffmpeg", ["-version"], ffmpeg.CONTROL_LIMITS) as running:
            running.stdout.read()
    except (TransientError, ffmpeg.MediaFault) as error:
        raise Red(str(error), "Then restart workers and evaluators.") from error
    found = ", ".join(f"{name} {ffmpeg.version(name)} at {ffmpeg.tool(name)}" for name in TOOLS)
    if running.missing:
        raise Amber(
            f"{found}, not confined by {' or '.join(running.missing)}",
            "Use Linux 5.13 or later with Landlock, and apt-get install libseccomp2; SECURITY.md says "
            "what a hostile video can do without them.",
        )
    return f"{found}, confined by Landlock and seccomp"


def check_painter(settings: Settings) -> str:
    """Have writing painted over as a worker does."""
    if not settings.paint_writing:
        raise Amber(
            "PAINT_WRITING is false, so the judge sees what is written in videos",
            "Leave PAINT_WRITING out. Otherwise videos can tell the judge which scores to give.",
        )
    try:
        painting.check()
    except TransientError as error:
        raise Red(error.reason, "Then restart workers and evaluators.") from error
    return "finds writing and paints it over, before the judge sees it"


def check_judge(settings: Settings) -> str:
    """Show the judge nine pictures, and check that it sees all of them and answers in the right form."""
    said = _ask_judge(settings)
    if settings.vlm_appeal_model:
        said += f"; for appeals {_ask_judge(settings.for_judging(is_appeal=True))}"
    return said


def _ask_judge(settings: Settings) -> str:
    reach([settings.vlm_api_url], "Check VLM_API_URL, and that the judge's server runs.")
    vlm = Vlm(settings, patience=JUDGE_PATIENCE)
    asked = Judge(vlm, settings)
    where = f"{vlm.model} at {vlm.endpoint}"
    digits = "".join(random.sample("123456789", SIZES[0].pictures))
    try:
        asked.check_form()
        read, tokens = asked.read_digits(digits)
    except TransientError as error:
        if isinstance(error.__cause__, TooMuch):
            raise Red(f"{where} says “{error.__cause__.said[:300]}”", error.reason) from error
        raise Red(
            f"{where}: {error.reason}",
            "Check VLM_API_URL, VLM_API_KEY, VLM_MODEL and VLM_APPEAL_MODEL: a vision language model "
            "that follows a JSON schema.",
        ) from error
    if vlm.model == OFFLINE_MODEL:
        return f"{where} is a stand-in for a judge: it answers, but does not understand pictures"
    size = asked.size()
    shown = f"{size.pictures} pictures of {size.long_side} pixels"
    if len(read) < size.pictures:
        raise Red(
            f"{where} was shown {shown} and saw {len(read)}: its server cuts requests without an error",
            MORE_ROOM,
        )
    if size != SIZES[0]:
        raise Amber(
            f"{where} accepts at most {shown}, not {SIZES[0].pictures} of {SIZES[0].long_side}",
            MORE_ROOM,
        )
    if read != digits:
        raise Amber(
            f"{where} reads {read} where {digits} is shown",
            "Set VLM_MODEL to a better vision language model.",
        )
    return f"{where} answers and sees all of {shown}, {tokens} tokens for them"
