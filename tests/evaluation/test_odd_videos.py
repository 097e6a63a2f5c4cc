"""Every kind of file gets the right verdict, with real ffmpeg and ffprobe."""

import re
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from app.assessment.quality import STILL_SHARE
from tests.odd_videos import ACCEPTED, REFUSED
from tests.videos import footage

# what the miner is told, at the least
REASONS = {
    "empty": "no usable video",
    "random bytes": "no usable video",
    "text": "no usable video",
    "MP4 torn before its index": "no usable video",
    "MP4 torn, index at the front": r"Only 1\.\d s of the 3\.0 s",
    "MKV torn": r"Only 1\.\d s of the 3\.0 s",
    "AVI torn": r"Only \d+ of the \d+ bytes",
    "many flipped bits": "of its frames are damaged",
    "zeroed in the middle": "of the 3.0 s",
    "sound only": "no video stream",
    "sound with a cover picture": "no video stream",
    "JPEG called .mp4": "container jpeg_pipe is not accepted",
    "GIF called .mp4": "container gif is not accepted",
    "one frame": "single picture",
    "one picture repeated": "one still picture throughout",
    "black": "black throughout",
    "MKV whose header says ten hours": "of the 36000.0 s",
    "two frames ten hours apart": "lasts 36000.04 s",
    "VP9 bomb of 65536 x 65536": "no size",
    "playlist of a real video": "no usable video",
    "concat script of a real video": "no usable video",
    "MPEG-TS": "container mpegts is not accepted",
    "FLV": "container flv is not accepted",
    "MPEG-4 part 2": "codec mpeg4 is not accepted",
    "Motion JPEG": "codec mjpeg is not accepted",
    "half a second": r"lasts 0\.5\d s, not between 1 and 300 s",
    "five minutes and more": "lasts 310.00 s",
}


@pytest.mark.parametrize("name", ACCEPTED)
def test_accepts(name, videos, evaluate_file, judge):
    outcome = evaluate_file(ACCEPTED[name](videos))

    assert outcome.rejection_reason is None
    assert outcome.technical_score == 1.0
    assert outcome.quality_score >= 0.8
    (question,) = judge.questions
    assert len(question.frames) >= 8
    assert len({frame.seconds for frame in question.frames}) == len(question.frames)
    assert len({frame.jpeg for frame in question.frames}) == len(question.frames)
    assert outcome.fingerprint


@pytest.mark.parametrize("name", REFUSED)
def test_refuses(name, videos, evaluate_file, judge):
    outcome = evaluate_file(REFUSED[name](videos))

    assert re.search(REASONS[name], outcome.rejection_reason), outcome.rejection_reason
    # no money is spent on them
    assert not judge.questions


def test_no_path_of_ours_is_told(videos, evaluate_file):
    for make in REFUSED.values():
        path = make(videos)
        assert str(path.parent) not in str(evaluate_file(path).report)


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
