"""`kibotos evaluate` on real files, with a real backend for the prompt and a scripted judge."""

import json
import threading

import pytest
from click.testing import CliRunner
from werkzeug.serving import make_server

from cli import kibotos
from tests.factories import make_prompt
from tests.odd_videos import KINDS
from tests.vlm_server import MODEL

TASK = ["--task", "grasp", "--scenario", "Pick up a mug"]


@pytest.fixture
def run(monkeypatch, tmp_path):
    """Runs the command in an empty directory: `run(path, …, VLM_API_URL=…)`."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments, **environment):
        return CliRunner().invoke(
            kibotos, ["evaluate", *map(str, arguments)], env={"VLM_API_URL": ""} | environment
        )

    return run


def test_the_report_of_a_good_video_as_a_table(run, videos, vlm):
    result = run(videos.make("bunny"), *TASK, VLM_API_URL=vlm.url, VLM_MODEL=MODEL)
    assert result.exit_code == 0, result.output
    # 0.2 + 0.5 * (0.4 * 0.9 + 0.2 * (0.8 + 0.7 + 0.6)) + 0.3
    for told in ("readable", "frozen", "action_match", "A hand picks up a mug.", "0.89", "SCORED"):
        assert told in result.output


def test_the_report_as_json(run, videos, vlm):
    result = run(videos.make("bunny"), *TASK, "--json", VLM_API_URL=vlm.url, VLM_MODEL=MODEL)
    report = json.loads(result.stdout)
    assert report["verdict"]["final_score"] == 0.89
    assert [check["name"] for check in report["technical"]["checks"]][:2] == ["readable", "valid_format"]
    assert len(report["keyframes"]) >= 8


def test_a_rejected_video_exits_with_1(run, videos):
    result = run(KINDS["MP4 torn, index at the front"].make(videos), *TASK)
    assert result.exit_code == 1
    assert "REJECTED" in result.output


def test_without_a_judge_all_but_the_relevance_is_told(run, videos):
    result = run(videos.make("bunny"), *TASK)
    assert result.exit_code == 0
    assert "VLM_API_URL is not set" in result.output
    assert "Final score" not in result.output


def test_the_prompt_comes_from_the_backend(run, videos, make_app):
    app = make_app()
    with app.app_context():
        make_prompt(id="p-7", requirements={"min_duration": 5})
    server = make_server("127.0.0.1", 0, app)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        address = f"http://127.0.0.1:{server.server_port}"
        result = run(videos.make("bunny"), "--prompt", "p-7", "--api-url", address)
        unknown = run(videos.make("bunny"), "--prompt", "p-8", "--api-url", address)
    finally:
        server.shutdown()
        thread.join()
    assert result.exit_code == 1
    assert "not between 5 and 300 s" in " ".join(result.output.split())
    assert unknown.exit_code == 1
    assert "no such prompt" in unknown.output


def test_it_says_what_is_missing(run, videos):
    result = run(videos.make("bunny"))
    assert result.exit_code == 1
    assert "either --prompt, or --task and --scenario" in result.output
