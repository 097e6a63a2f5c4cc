"""The offline judge, asked by the real client: strict with requests, blind to meaning, honest about it."""

import base64
import copy
import dataclasses
import io
import subprocess
import threading

import pytest
import requests
from PIL import Image

from app.assessment.judge import Judge, JudgeQuestion, build_request
from app.assessment.model import Brief
from app.clients.vlm import Vlm
from app.config import OFFLINE_MODEL
from app.local.judge import OfflineJudge
from app.video.ffmpeg import tool
from app.video.frames import Still

KEY = "sk-offline"


@pytest.fixture(scope="module")
def server():
    with OfflineJudge(key=KEY) as judge:
        threading.Thread(target=judge.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        yield judge
        judge.shutdown()


def _frames(video):
    command = [
        tool("ffmpeg"),
        "-v",
        "error",
        "-i",
        video,
        "-vf",
        "fps=1",
        "-f",
        "image2pipe",
        "-c:v",
        "mjpeg",
        "-",
    ]
    data = subprocess.run(command, capture_output=True, check=True).stdout
    jpegs = [b"\xff\xd8" + part for part in data.split(b"\xff\xd8")[1:]]
    return tuple(Still(seconds=float(i), jpeg=jpeg) for i, jpeg in enumerate(jpegs))


def _question(frames):
    return JudgeQuestion(Brief("manipulation", "grasp", "Pick up a mug", {}), frames)


@pytest.fixture
def assess(server, settings):
    judge = Judge(
        Vlm(dataclasses.replace(settings, vlm_api_url=server.url, vlm_api_key=KEY, vlm_model=OFFLINE_MODEL)),
        settings,
    )
    return lambda video: judge.assess(_question(_frames(video)))


def _scores(answer):
    return [
        getattr(answer, name)
        for name in ("action_match", "perspective_correct", "demonstration_quality", "training_utility")
    ]


def test_it_scores_what_can_be_measured_and_says_that_it_understands_nothing(assess, videos):
    answer = assess(videos.make("bikes", seconds=5))
    assert answer.model == OFFLINE_MODEL
    assert "does not understand pictures" in answer.reasoning
    assert not answer.addresses_judge
    assert answer.prompt_tokens > 1000 and answer.completion_tokens > 50


def test_the_same_video_gets_the_same_scores_and_another_gets_others(assess, videos):
    bikes, bunny = videos.make("bikes", seconds=5), videos.make("bunny", seconds=5)
    assert _scores(assess(bikes)) == _scores(assess(bikes))
    assert _scores(assess(bikes)) != _scores(assess(bunny))


def test_a_video_in_which_nothing_moves_shows_no_action(assess, videos):
    answer = assess(videos.make("color=black", seconds=5))
    assert answer.action_match < 0.05 and answer.demonstration_quality < 0.05


def test_a_blurred_video_is_worth_less(assess, videos):
    sharp = assess(videos.make("bikes", seconds=5))
    blurred = assess(videos.make("bikes", seconds=5, filters=["gblur=sigma=8"]))
    assert blurred.training_utility < sharp.training_utility


# -- strictness -----------------------------------------------------------------------------------------


def _jpeg(mode="RGB"):
    file = io.BytesIO()
    Image.new(mode, (64, 48)).save(file, "JPEG")
    return file.getvalue()


@pytest.fixture
def valid():
    request = build_request(_question((Still(seconds=0.0, jpeg=_jpeg()),)), 0)
    return copy.deepcopy(request) | {"model": OFFLINE_MODEL, "seed": 0}


def _post(server, body, **headers):
    headers = {"Authorization": f"Bearer {KEY}"} | headers
    return requests.post(f"{server.url}/chat/completions", json=body, headers=headers)


def test_the_clients_request_is_valid(server, valid):
    answer = _post(server, valid)
    assert answer.status_code == 200
    assert answer.json()["choices"][0]["finish_reason"] == "stop"
    assert answer.json()["usage"]["total_tokens"] > 0


def _image(request):
    return next(p for p in request["messages"][1]["content"] if p["type"] == "image_url")["image_url"]


def _png():
    file = io.BytesIO()
    Image.new("RGB", (64, 48)).save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


@pytest.mark.parametrize(
    ("spoil", "param"),
    [
        (lambda r: r.pop("model"), "model"),
        (lambda r: r.pop("messages"), "messages"),
        (lambda r: r.update(messages=[]), "messages"),
        (lambda r: r["messages"][0].update(role="narrator"), "messages.0"),
        (lambda r: r["messages"][1].update(content=[]), "messages.1"),
        (lambda r: r["messages"][0].update(content=r["messages"][1]["content"]), "messages.0"),
        (lambda r: r["messages"][1]["content"][0].update(type="audio"), "messages.1"),
        (lambda r: r["messages"][1]["content"][0].pop("text"), "messages.1"),
        (lambda r: _image(r).update(url="https://example.org/a.jpg"), "messages.1"),
        (lambda r: _image(r).update(url="data:image/jpeg;base64,@@@"), "messages"),
        (lambda r: _image(r).update(url=_image(r)["url"][:200]), "messages"),
        (lambda r: _image(r).update(url=f"data:image/jpeg;base64,{_png()}"), "messages"),
        (lambda r: r.update(temperature="0"), "temperature"),
        (lambda r: r.update(temperature=3), "temperature"),
        (lambda r: r.update(seed=0.5), "seed"),
        (lambda r: r.update(max_tokens=0), "max_tokens"),
        (lambda r: r.update(stream=True), "stream"),
        (lambda r: r.update(temprature=0), "temprature"),
        (lambda r: r.pop("response_format"), "response_format"),
        (lambda r: r["response_format"].update(type="json"), "response_format"),
        (
            lambda r: r["response_format"]["json_schema"].pop("name"),
            "response_format.json_schema.json_schema.name",
        ),
        (
            lambda r: r["response_format"]["json_schema"]["schema"].pop("additionalProperties"),
            "response_format.json_schema",
        ),
        (
            lambda r: r["response_format"]["json_schema"]["schema"]["required"].pop(),
            "response_format.json_schema",
        ),
    ],
)
def test_a_wrong_request_is_refused_and_told_where(server, valid, spoil, param):
    spoil(valid)
    answer = _post(server, valid)
    assert answer.status_code == 400
    assert answer.json()["error"]["type"] == "invalid_request_error"
    assert answer.json()["error"]["param"].startswith(param)


def test_another_model_is_unknown(server, valid):
    answer = _post(server, valid | {"model": "gpt-4o"})
    assert answer.status_code == 404
    assert answer.json()["error"]["code"] == "model_not_found"


def test_a_wrong_key_is_refused(server, valid):
    assert _post(server, valid, Authorization="Bearer wrong").status_code == 401


def test_what_is_not_json_is_refused(server):
    headers = {"Authorization": f"Bearer {KEY}"}
    url = f"{server.url}/chat/completions"
    assert requests.post(url, data="{", headers=headers).status_code == 415
    headers["Content-Type"] = "application/json"
    assert requests.post(url, data="{", headers=headers).status_code == 400


def test_models_are_listed(server):
    headers = {"Authorization": f"Bearer {KEY}"}
    answer = requests.get(f"{server.url}/models", headers=headers)
    assert [model["id"] for model in answer.json()["data"]] == [OFFLINE_MODEL]
    assert requests.get(f"{server.url}/nothing", headers=headers).status_code == 404
