"""Fixtures of the evaluation's tests: video files and a judge of known answers."""

import dataclasses
import os
import sys
import uuid
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import pytest

from app.assessment import pipeline
from app.assessment.judge import JudgeAnswer
from app.assessment.model import Brief, Claim
from app.clients import retry
from app.video.ffmpeg import MediaFault
from app.video.probe import probe
from tests import toolsets
from tests.videos import Videos, sha256


def children():
    """The process ids of this process's children: the tests' servers, and tools under way."""
    found = set()
    for task in Path("/proc/self/task").iterdir():
        # a thread may end meanwhile
        with suppress(OSError):
            found.update(int(pid) for pid in (task / "children").read_text().split())
    return found


class FixedJudge:
    """Gives every video the same answer and keeps what it was asked."""

    def __init__(self, **answer):
        self.questions = []
        self.answer = JudgeAnswer(
            **{
                "action_match": 0.9,
                "perspective_correct": 0.8,
                "demonstration_quality": 0.7,
                "training_utility": 0.6,
                "reasoning": "A hand is seen.",
                "addresses_judge": False,
                "model": "fixed",
                "prompt_version": "test",
                "prompt_tokens": 10,
                "completion_tokens": 5,
                "raw": ("{}",),
            }
            | answer
        )

    def assess(self, question):
        self.questions.append(question)
        return self.answer


@pytest.fixture(scope="session")
def videos(tmp_path_factory):
    return Videos(tmp_path_factory.mktemp("videos"))


@pytest.fixture
def judge():
    return FixedJudge()


@pytest.fixture
def no_waits(monkeypatch):
    """Tries again at once, where a client would wait."""
    monkeypatch.setattr(retry, "_backoff", lambda state: 0)


@pytest.fixture
def workdir(tmp_path):
    """A directory that must be empty again when the test is over."""
    directory = tmp_path / "work"
    directory.mkdir()
    yield directory
    assert not list(directory.iterdir())


@pytest.fixture
def broken_tool(monkeypatch, tmp_path):
    """Puts a program first on the PATH that states a version and else runs a script, and returns its path."""

    def put(name, script, version="8.0"):
        directory = tmp_path / "bin"
        directory.mkdir(exist_ok=True)
        program = directory / name
        stated = f'[ "$4" = -version ] && echo "{name} version {version}" && exit'
        program.write_text(f"#!/bin/sh\n{stated}\n{script}\n")
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{directory}:{os.environ['PATH']}")
        if name in toolsets.PACKAGES:
            # as if it were not installed
            monkeypatch.setitem(sys.modules, toolsets.PACKAGES[name], None)
        toolsets.forget()
        return program

    yield put
    toolsets.forget()


BRIEF = Brief("manipulation", "grasp", "Pick up a mug from a table using one hand", {})


def make_claim(path, **changes):
    """A claim on the file at `path` that says the truth about it, but for `changes`."""
    try:
        found = probe(path)
        truth = (found.duration, found.width, found.height, found.fps)
    except MediaFault:
        truth = (3.0, 640, 480, 25.0)
    duration, width, height, fps = truth
    claim = Claim(
        id=1,
        submission_uuid=uuid.uuid4(),
        attempt=1,
        claim_token=uuid.uuid4(),
        lease_expires_at=datetime.now(UTC),
        video_key="uploads/x/video.mp4",
        video_hash=sha256(path),
        prompt_id="p-1",
        **vars(BRIEF),
        duration_sec=duration,
        resolution_width=width,
        resolution_height=height,
        fps=fps,
        frame_seed=uuid.uuid4(),
    )
    return dataclasses.replace(claim, **changes)


@pytest.fixture
def evaluate_file(judge, workdir):
    """Evaluates a local file, unpainted: `evaluate_file(path, requirements={…})` changes its brief."""

    def evaluate(path, **changes):
        return pipeline.evaluate_file(path, dataclasses.replace(BRIEF, **changes), judge, workdir, None)

    return evaluate
