"""Films of two kinds of footage, cut so that the judge and the duplicate search would look at different ones.

The filler is dark and the stolen footage bright, so that a picture tells which of them it shows.
"""

import io

import numpy as np
import pytest
from PIL import Image

from app.assessment import pipeline
from app.video.probe import probe
from app.video.scan import scan
from tests.evaluation.conftest import make_claim
from tests.videos import footage, run_ffmpeg

H264 = ("-c:v", "libx264", "-preset", "ultrafast", "-crf", "16", "-pix_fmt", "yuv420p")
SHAPE = "scale=640:480,setsar=1,fps=25"
BRIGHT = 128


@pytest.fixture(scope="module")
def splice(videos):
    """Makes 5 s of filler that shows stolen footage in the frames that the expression `when` tells."""

    def make(when, *options):
        path = videos.directory / f"splice-{abs(hash((when, *options)))}.mkv"
        graph = (
            f"[0:v]{SHAPE},eq=brightness=-0.3:contrast=0.7[filler];[1:v]{SHAPE},eq=brightness=0.3[stolen];"
            f"[filler][stolen]overlay=enable='{when}'"
        )
        inputs = ("-i", footage("bunny"), "-i", footage("bikes"))
        run_ffmpeg(*inputs, "-filter_complex", graph, "-t", 5, "-an", *H264, *options, path)
        return path

    return make


def is_stolen(jpeg):
    return np.asarray(Image.open(io.BytesIO(jpeg)).convert("L")).mean() > BRIGHT


@pytest.mark.parametrize("gop", [6, 10, 12])
def test_footage_at_keyframes_is_not_shown_to_the_judge(splice, evaluate_file, judge, gop):
    path = splice(f"not(mod(n,{gop}))", "-g", gop, "-keyint_min", gop, "-sc_threshold", 0, "-bf", 0)
    outcome = evaluate_file(path)

    assert outcome.report.measures.brief_shots >= 1 / gop - 0.02
    assert outcome.quality_score <= 1 - 1.5 * (1 / gop - 0.04)
    assert not any(is_stolen(still.jpeg) for question in judge.questions for still in question.frames)


def test_some_inserted_frames_are_not_shown_to_the_judge(splice, evaluate_file, judge):
    outcome = evaluate_file(splice("eq(mod(n,11),5)"))
    assert outcome.report.measures.brief_shots == pytest.approx(0.088, abs=0.02)
    (question,) = judge.questions
    assert not any(is_stolen(still.jpeg) for still in question.frames)


@pytest.mark.parametrize(
    "when", ["mod(n,2)", "mod(n,3)", "lt(mod(n,6),3)", "mod(floor(n/8),2)", "mod(floor(n/20),2)"]
)
def test_what_flickers_is_rejected(splice, evaluate_file, judge, when):
    outcome = evaluate_file(splice(when))
    assert "It flickers" in outcome.rejection_reason
    # the second, the threshold, and what to do
    assert all(told in outcome.rejection_reason for told in (" s on", "30%", "Film in one take"))
    assert not judge.questions


def test_what_a_fixed_rate_would_look_at_does_not_decide(splice, videos, evaluate_file, judge):
    """Filler stands for a hundredth of a second at each eighth, and stolen footage in between."""
    both = splice("mod(n,2)", "-g", 25)
    path = videos.directory / "timed.mkv"
    timed = "setpts='(floor(N/2)/8+0.01*mod(N,2))/TB'"
    run_ffmpeg("-i", both, "-vf", timed, "-fps_mode", "vfr", "-enc_time_base", "1:1000", *H264, path)
    found = scan(path, probe(path), "seed", videos.directory, lambda: None)

    assert sum(is_stolen(still.jpeg) for still in found.pictures) >= 0.8 * len(found.pictures)
    # and the hashes are of the same moments
    assert {still.seconds for still in found.pictures} <= {each.seconds for each in found.fingerprint}


def test_each_submission_is_looked_at_at_other_moments_and_the_report_says_which(
    videos, judge, workdir, tmp_path
):
    path = videos.make("bikes", seconds=5)
    seen = set()
    for _ in range(2):
        claim = make_claim(path)
        run = pipeline.frame_seed(claim)
        assert claim.frame_seed.hex not in run
        outcome = pipeline.evaluate_file(path, claim.brief, judge, workdir, None)
        assert outcome.report.frame_seed == outcome.report.verified_sha256
        found = scan(path, probe(path), run, tmp_path, lambda: None)
        again = scan(path, probe(path), run, tmp_path, lambda: None)
        assert found == again
        seen.add(tuple(still.seconds for still in found.pictures))
    assert len(seen) == 2
    one, other = seen
    assert len(set(one) & set(other)) <= 2


@pytest.mark.parametrize("name", ["bikes", "bunny"])
def test_honest_footage_is_no_splice(evaluate_file, name):
    outcome = evaluate_file(footage(name))
    assert outcome.rejection_reason is None
    assert outcome.quality_score >= 0.95


@pytest.mark.parametrize(
    "filters",
    [
        "eq=brightness=0.04*sin(2*PI*t*9):eval=frame",
        "eq=brightness=0.5:enable=between(n\\,50\\,51)",
        "fps=15",
        "crop=560:420:40+30*sin(t*5):30+25*cos(t*7),scale=640:480",
    ],
    ids=["flickering lamps", "a flash", "15 frames a second", "a shaken camera"],
)
def test_honest_unrest_costs_little(videos, evaluate_file, filters):
    outcome = evaluate_file(videos.make("bunny", seconds=5, filters=(filters,)))
    assert outcome.rejection_reason is None
    assert outcome.quality_score >= 0.95
