"""Every kind of file gets the right verdict, with real ffmpeg and ffprobe."""

import dataclasses
import re
import threading
import time
import warnings
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from app.assessment import pipeline
from app.assessment.quality import STILL_SHARE
from app.video import ffmpeg
from tests import toolsets
from tests.evaluation.conftest import BRIEF, FixedJudge
from tests.odd_videos import KINDS, REQUIREMENTS
from tests.videos import footage

PREFERRED, *OTHERS = toolsets.at_hand()
# a kind's tests share its evaluations, so one process runs them (pytest --dist loadgroup)
EACH_KIND = [pytest.param(name, marks=pytest.mark.xdist_group(name)) for name in KINDS]


@pytest.fixture(scope="session")
def evaluated(videos, tmp_path_factory):
    """Evaluates a kind of file by a set of tools, once: returns the outcome and what the judge was shown."""
    workdir = tmp_path_factory.mktemp("work")

    @cache
    def evaluate(name, toolset):
        kind, judge = KINDS[name], FixedJudge()
        brief = dataclasses.replace(BRIEF, requirements=REQUIREMENTS | kind.requirements)
        with toolsets.using(toolset):
            return pipeline.evaluate_file(kind.make(videos), brief, judge, workdir, None), judge.questions

    return evaluate


def test_every_kind_gets_its_verdict(name, evaluated, videos):
    kind = KINDS[name]
    outcome, questions = evaluated(name, PREFERRED)
    # no path of ours is told
    assert str(videos.directory) not in str(outcome.report)

    if kind.reason:
        assert re.search(kind.reason, outcome.rejection_reason or ""), outcome.rejection_reason
        # no money is spent on them
        assert not questions
        return
    assert outcome.rejection_reason is None
    assert outcome.technical_score >= kind.technical
    assert (outcome.technical_score == 1) == (kind.technical == 1)
    assert outcome.quality_score >= 0.8
    assert outcome.fingerprint
    (question,) = questions
    frames = question.frames
    assert len(frames) >= 8
    assert len({frame.seconds for frame in frames}) == len(frames)
    # a pause shows one picture more than once
    assert len({frame.jpeg for frame in frames}) > len(frames) / 2
    found = {field: getattr(outcome.report.video, field) for field in kind.video}
    assert found == pytest.approx(kind.video, rel=0.01)


def pytest_generate_tests(metafunc):
    every = {test_every_kind_gets_its_verdict: 2, test_all_tools_at_hand_agree: 4}.get(metafunc.function)
    if every:
        metafunc.parametrize("name", EACH_KIND[:: 1 if metafunc.config.getoption("all_kinds") else every])


def test_all_tools_at_hand_agree(name, evaluated):
    if not OTHERS:
        warnings.warn("Not compared: this machine has no ffmpeg and ffprobe of its own.", stacklevel=1)
        pytest.skip("install ffmpeg (apt-get install ffmpeg) to compare it with that of the wheels")
    one, other = (evaluated(name, toolset)[0] for toolset in (PREFERRED, *OTHERS))

    assert bool(one.rejection_reason) == bool(other.rejection_reason)
    assert re.sub(r"\d+", "N", one.rejection_reason or "") == re.sub(
        r"\d+", "N", other.rejection_reason or ""
    )
    assert one.technical_score == pytest.approx(other.technical_score, abs=0.001)
    assert one.quality_score == pytest.approx(other.quality_score, abs=0.001)


def test_the_sets_of_tools_are_different_programs():
    found = []
    for name in toolsets.at_hand():
        with toolsets.using(name):
            found += [ffmpeg.tool("ffmpeg"), ffmpeg.tool("ffprobe")]
    assert len(set(found)) == len(found)


@pytest.fixture
def canary():
    """A web server that counts the requests it gets."""
    requests = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            requests.append(self.path)
            self.send_error(404)

        def log_message(self, *arguments):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", requests
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize(
    "script",
    [
        "#EXTM3U\n#EXTINF:3,\n{url}/segment.ts\n#EXT-X-ENDLIST\n",
        "ffconcat version 1.0\nfile '{url}/video.mp4'\n",
        '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static"><Period>'
        "<BaseURL>{url}/</BaseURL></Period></MPD>",
        "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nm=video 5004 RTP/AVP 96\n",
        "RTSPtextRTSP://127.0.0.1/x {url}\n",
        "[Reference]\nRef1={url}/video.mp4\n",
    ],
    ids=["HLS", "concat", "DASH", "SDP", "QuickTime reference", "ASX"],
)
def test_nothing_is_opened_but_the_file_itself(script, canary, videos, evaluate_file):
    url, requests = canary
    path = videos.directory / "script.mp4"
    path.write_text(script.format(url=url))

    began = time.monotonic()
    assert evaluate_file(path).rejection_reason
    assert time.monotonic() - began < 10
    assert not requests


def test_real_footage_keeps_its_quality(videos, evaluate_file):
    for name in ("bikes", "bunny"):
        outcome = evaluate_file(footage(name))
        assert outcome.rejection_reason is None
        assert outcome.quality_score >= 0.8


def test_a_picture_that_moves_a_little_is_a_video(videos, evaluate_file):
    still = "select=eq(n\\,0),loop=-1:1,fps=25[still]"
    dot = "color=white:s=24x24:r=25[dot];[still][dot]overlay=x=mod(t*40\\,600)"
    moving = videos.make("bunny", seconds=4, filters=(f"{still};{dot}",))
    outcome = evaluate_file(moving)

    assert outcome.report.measures.frozen < STILL_SHARE
    assert outcome.rejection_reason is None


def test_a_file_over_its_limit_loses_points_and_one_over_twice_that_is_refused(videos, evaluate_file):
    path = videos.make(seconds=3)
    megabytes = path.stat().st_size / 1e6
    over = evaluate_file(path, requirements={"max_file_size_mb": megabytes * 0.6})
    assert over.rejection_reason is None and over.technical_score < 1
    far_over = evaluate_file(path, requirements={"max_file_size_mb": megabytes * 0.4})
    assert "It is larger than" in far_over.rejection_reason
