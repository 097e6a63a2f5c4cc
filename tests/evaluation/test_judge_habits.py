"""The habits of judges' servers: what they refuse, how they answer, and who is to blame for a fault."""

import base64
import dataclasses
import io
import itertools
import json
import re

import numpy as np
import pytest
import structlog
from PIL import Image

from app.assessment import known_pictures
from app.assessment.judge import (
    MAX_JUDGE_CALLS,
    SIZES,
    Judge,
    JudgeQuestion,
    LocalCounter,
    Size,
    build_request,
)
from app.assessment.model import Brief
from app.clients.vlm import Patience, Vlm
from app.clients.vlm_habits import Habits, find_excess
from app.config import Settings
from app.db import db
from app.errors import TransientError
from app.evaluation import service
from app.evaluation.judge_memory import DatabaseMemory
from app.video.frames import Still
from tests.factories import make_submission
from tests.vlm_server import (
    GOOD,
    MISSING,
    MODEL,
    body,
    completion,
    hang,
    redirect,
    refuses,
    refuses_when,
    status,
    stream,
)

pytestmark = pytest.mark.usefixtures("no_waits")

QUICK = Patience(attempts=2, attempt_seconds=10, seconds=20)


@pytest.fixture(scope="module")
def question():
    frames = tuple(
        dataclasses.replace(still, seconds=2.0 * n)
        for n, still in enumerate(known_pictures.take("111111111"))
    )
    return JudgeQuestion(Brief("manipulation", "grasp", "Pick up a mug", {"hands": "one"}), frames)


@pytest.fixture
def make_judge(vlm):
    def make(counter=None, memory=None, **changes):
        values = {"app_env": "development", "vlm_api_url": vlm.url, "vlm_model": MODEL} | changes
        settings = Settings(**values)
        return Judge(Vlm(settings, memory, QUICK), settings, memory, counter)

    return make


@pytest.fixture
def assess(make_judge, question):
    return lambda: make_judge().assess(question)


# -- what they refuse


def has_keyword(request):
    return "maximum" in json.dumps(request.body.get("response_format", {}))


def format_type(request):
    return request.body.get("response_format", {}).get("type")


@pytest.mark.parametrize(
    "habit",
    [
        refuses(
            "max_tokens",
            "Unsupported parameter: 'max_tokens' is not supported with this model. "
            "Use 'max_completion_tokens' instead.",
        ),
        refuses("temperature", "Unsupported value: 'temperature' does not support 0.0 with this model."),
        refuses("seed"),
        refuses("seed", "[{'type': 'extra_forbidden', 'loc': ('body', 'seed'), 'msg': 'Extra inputs'}]", 422),
        refuses("seed", "seed: Extra inputs are not permitted"),
        refuses("response_format", "This model does not support response_format", 501),
        refuses_when(
            lambda request: format_type(request) == "json_schema",
            "'response_format.type' must be 'json_object' or 'text'",
        ),
        refuses_when(has_keyword, "Invalid schema for response_format: 'maximum' is not permitted."),
        refuses_when(has_keyword, "guided decoding: minimum/maximum are not supported by this backend"),
    ],
)
def test_a_parameter_that_is_refused_is_dropped_or_replaced_and_that_is_remembered(
    vlm, make_judge, question, habit
):
    vlm.habits = [habit]
    judge = make_judge()
    with structlog.testing.capture_logs() as logs:
        assert judge.assess(question).action_match == 0.9
        assert judge.assess(question).action_match == 0.9
    *refused, second, third = vlm.requests
    assert set(refused[0].body) - set(second.body) <= {"max_tokens", "temperature", "seed", "response_format"}
    assert second.body == third.body
    assert ("max_completion_tokens" in second.body) == ("max_tokens" not in second.body)
    assert [log["event"] for log in logs].count("judge_habit_learned") == len(refused) <= 3


@pytest.mark.parametrize(
    ("code", "said"),
    [
        (403, "Forbidden: 'seed' is not supported"),
        (403, "The video violates our strict content policy"),
        (400, "The video violates our strict content policy"),
        (400, 'Your prompt "plant the `seed` grammar" was flagged by our content filter'),
        (422, "A pumpkin seed is no fit subject at this temperature"),
        (400, "This structured image was refused; guided by our schema"),
        (409, "Unsupported parameter: 'seed'"),
    ],
)
def test_what_moderates_a_video_teaches_nothing_of_the_form(vlm, make_judge, question, code, said):
    vlm.always(status(code, message=said), when=ABOUT_THE_VIDEO)
    judge = make_judge()
    with pytest.raises(TransientError) as caught:
        judge.assess(question)
    assert caught.value.suspect_video
    assert judge._vlm.habits == Habits()


@pytest.mark.parametrize(
    ("said", "refused"),
    [
        ("Unrecognized request argument supplied: seed", "seed"),
        ("invalid temperature: only 0.6 is allowed for this model", "temperature"),
        ("`temperature` is deprecated for this model.", "temperature"),
        ('{"detail": [{"type": "extra_forbidden", "loc": ["body", "seed"]}]}', "seed"),
        ('{"error": {"message": "Extra inputs are not permitted", "param": "seed"}}', "seed"),
        ("The provided JSON schema contains features not supported by xgrammar.", "strict json_schema"),
        ("Failed to parse grammar", "strict json_schema"),
        ("Unknown name `additionalProperties` at 'generation_config.schema'", "strict json_schema"),
    ],
)
def test_a_parameter_is_named_as_one(said, refused):
    sent = {"seed": 0, "temperature": 0, "response_format": {}}
    assert Habits().learn(said, sent).refused == {refused}


def test_a_server_that_refuses_everything_gets_what_is_left(vlm, assess):
    vlm.habits = [
        refuses("max_tokens"),
        refuses("max_completion_tokens"),
        refuses("temperature"),
        refuses("seed"),
        refuses("response_format"),
    ]
    assert assess().action_match == 0.9
    assert set(vlm.requests[-1].body) == {"model", "messages"}


def test_schema_keywords_go_before_the_schema_does(vlm, assess):
    vlm.habits = [refuses_when(has_keyword, "schema keyword 'maximum' unknown")]
    assess()
    schema = vlm.requests[-1].body["response_format"]["json_schema"]["schema"]
    assert set(schema) == {"type", "properties", "required"}
    assert schema["properties"]["action_match"] == {"type": "number"}


def test_what_was_learned_outlives_the_process_and_costs_the_submission_nothing(
    vlm, app, make_judge, question
):
    vlm.habits = [refuses("seed"), refuses("temperature")]
    with app.app_context():
        make_submission()
        [claim] = service.claim_due(1, "test", 60)
        memory = DatabaseMemory()
        make_judge(memory.counter(claim), memory).assess(question)
        assert (len(vlm.requests), calls_of(claim)) == (3, 1)
        other = dataclasses.replace(question, brief=dataclasses.replace(question.brief, task="place"))
        make_judge(memory.counter(claim), DatabaseMemory()).assess(other)
        assert (len(vlm.requests), calls_of(claim)) == (4, 2)
        # another model is another matter
        assert Vlm(Settings(vlm_api_url=vlm.url, vlm_model="other"), memory).habits == Habits()
        with db.engine.begin() as connection:
            connection.exec_driver_sql("UPDATE judge_habits SET learned_at = now() - interval '25 hours'")
        assert Vlm(Settings(vlm_api_url=vlm.url, vlm_model=MODEL), memory).habits == Habits()


@pytest.mark.parametrize(
    ("said", "at_most"),
    [
        ("At most 4 image(s) may be provided in one request.", 4),
        ("At most 1 image(s) may be provided in one prompt.", 1),
        ('{"message":"At most 4 image(s) may be provided in one prompt. (parameter=image)"}', 4),
        ("Image count 9 exceeds limit 4 per request.", 4),
        ("You set image=1 (or defaulted to 1) in `--limit-mm-per-prompt`, but found 9 items", 1),
        ("Too many images provided. This model supports up to 5 images", 5),
        ("Too many images in request. Max is 10.", None),
        ("The maximum number of images is 5", None),
        ("This model supports only one image per request", 1),
        ("Multiple images are not supported", 1),
        ("This model's maximum context length is 4096 tokens. However, you requested 5500 tokens", None),
        ("'max_tokens' is too large: 1500. This model's maximum context length is 4096 tokens", None),
        ("the request exceeds the available context size (4096 tokens), try increasing it", None),
        ("prompt is too long: 210000 tokens > 200000 maximum", None),
        ("Input token count 9000 exceeds the maximum number of tokens allowed", None),
        ("input is too large to process. increase the physical batch size", None),
        (
            "The decoder prompt (length 6120) is longer than the maximum model length of 4096. Make sure "
            "that `max_model_len` is no smaller than the number of text tokens plus multimodal tokens. For "
            "image inputs, the number of image tokens depends on the number of images.",
            None,
        ),
        ("The input (6120 tokens) is longer than the model's context length (4096 tokens).", None),
        ("Request Entity Too Large", None),
        ("Image size must not exceed 20 MB", None),
    ],
)
def test_refusals_of_the_size_are_told_from_those_of_the_form(said, at_most):
    excess = find_excess(400, said)
    assert excess is not None
    assert at_most is None or excess.at_most == at_most
    assert excess.said == said


@pytest.mark.parametrize(
    "said",
    [
        "Unsupported parameter: 'max_tokens' is not supported with this model.",
        "Your request was rejected by our safety system",
        "The request took too long",
        "The model is overloaded",
        "Image size is too small: the minimum is 28 pixels",
        "The image dimensions must be at least 10 by 10",
        "This single image violates our content policy",
        "invalid api key",
    ],
)
def test_other_refusals_say_nothing_of_the_size(said):
    assert find_excess(400, said) is None


def pixels(request):
    return sum(image.width * image.height for image in request.images)


@pytest.mark.parametrize(
    ("habit", "pictures", "side"),
    [
        (
            refuses_when(lambda r: len(r.images) > 5, "At most 5 image(s) may be provided in one request."),
            5,
            768,
        ),
        (refuses_when(lambda r: len(r.images) > 4, "Too many images.", 422), 4, 384),
        (refuses_when(lambda r: pixels(r) > 9 * 512 * 288, "maximum context length is 4096 tokens"), 9, 512),
        (refuses_when(lambda r: pixels(r) > 4 * 384 * 216, "context_length_exceeded"), 4, 384),
        (refuses_when(lambda r: len(json.dumps(r.body)) > 400_000, "<html>413</html>", 413), None, None),
    ],
)
def test_fewer_and_smaller_pictures_where_it_takes_no_more(vlm, make_judge, question, habit, pictures, side):
    vlm.habits = [habit]
    judge = make_judge()
    answer = judge.assess(question)
    last = vlm.requests[-1]
    assert len(last.images) == answer.pictures == (pictures or answer.pictures)
    assert max(last.images[0].size) == answer.picture_size == (side or answer.picture_size)
    # from the first to the last, and the next is asked in that size at once
    assert f"Frame at {question.frames[-1].seconds:.2f} s:" in last.text
    before = len(vlm.requests)
    judge.assess(question)
    assert len(vlm.requests) == before + 1


@pytest.mark.parametrize(
    "habit",
    [
        refuses_when(lambda r: len(r.images) > 3, "At most 3 image(s) may be provided in one request."),
        refuses_when(lambda r: len(r.images) > 0, "maximum context length is 1024 tokens"),
        refuses_when(lambda r: len(r.images) > 0, "This model supports up to 0 images"),
    ],
)
def test_under_the_floor_it_is_an_obstacle_and_not_the_videos(vlm, make_judge, question, habit):
    vlm.habits = [habit]
    counter = LocalCounter()
    with pytest.raises(TransientError) as caught:
        make_judge(counter).assess(question)
    assert caught.value.dependency == "vlm" and not caught.value.suspect_video
    assert "OLLAMA_CONTEXT_LENGTH" in caught.value.reason and "--limit-mm-per-prompt" in caught.value.reason
    assert counter.calls == 0


def heavy_frames(count=9):
    """Frames of noise alone: JPEGs twice as large as those of known pictures, in each size."""
    random = np.random.default_rng(0)
    for second in range(count):
        buffer = io.BytesIO()
        noise = random.integers(0, 255, (432, 768, 3), dtype=np.uint8)
        Image.fromarray(noise).save(buffer, "JPEG", quality=95)
        yield Still(float(second), buffer.getvalue())


@pytest.mark.parametrize(
    ("size", "sees_film"), [(SIZES[0], True), (SIZES[1], True), (SIZES[-1], False)], ids=str
)
def test_a_film_that_is_heavier_than_others_makes_only_its_own_pictures_smaller(
    vlm, make_judge, question, size, sees_film
):
    """The server takes known pictures in `size` and not larger, by the bytes of the request."""
    limit = 1.2 * len(json.dumps(build_request(question, 0, size)))
    vlm.habits = [refuses_when(lambda r: len(json.dumps(r.body)) > limit, "Request Entity Too Large", 413)]
    judge = make_judge(counter := LocalCounter())
    heavy = dataclasses.replace(question, frames=tuple(heavy_frames()))
    if sees_film:
        answer = judge.assess(heavy)
        assert Size(answer.pictures, answer.picture_size).within(size) != size
    else:
        with pytest.raises(TransientError, match="known pictures") as caught:
            judge.assess(heavy)
        assert caught.value.suspect_video and caught.value.dependency is None
    assert judge.size() == size, "what others are shown"
    assert counter.calls <= 2, "the known pictures are shown once"
    answer = judge.assess(question)
    assert (answer.pictures, answer.picture_size) == (size.pictures, size.long_side)


def test_an_answer_about_smaller_pictures_is_remembered_as_that(vlm, app, make_judge, question):
    limit = 1.2 * len(json.dumps(build_request(question, 0)))
    vlm.habits = [refuses_when(lambda r: len(json.dumps(r.body)) > limit, "Request Entity Too Large", 413)]
    heavy = dataclasses.replace(question, frames=tuple(heavy_frames()))
    with app.app_context():
        first = make_judge(memory=DatabaseMemory()).assess(heavy)
        again = make_judge(memory=DatabaseMemory()).assess(heavy)
    assert sum(ABOUT_THE_VIDEO in r.text and len(json.dumps(r.body)) <= limit for r in vlm.requests) == 1
    assert (again.pictures, again.picture_size) == (first.pictures, first.picture_size)


def test_a_film_that_is_too_large_by_itself_stops_nobody_and_ends(vlm, app, make_judge, question):
    vlm.always(status(413), when=ABOUT_THE_VIDEO)
    with app.app_context():
        make_submission()
        for _ in range(service.MAX_SUSPECT_ATTEMPTS):
            [claim] = service.claim_due(1, "worker", 60)
            memory = DatabaseMemory()
            with pytest.raises(TransientError) as caught:
                make_judge(memory.counter(claim), memory).assess(question)
            service.release(claim, caught.value)
            with db.engine.begin() as connection:
                connection.exec_driver_sql("UPDATE submissions SET not_before = now()")
        assert not service.claim_due(1, "worker", 60), "a person looks"
        assert memory.load(vlm.url, MODEL, 60) is None


def test_a_short_video_needs_no_four_pictures(vlm, make_judge, question):
    vlm.habits = [refuses_when(lambda r: len(r.images) > 2, "At most 2 images")]
    answer = make_judge().assess(dataclasses.replace(question, frames=question.frames[:2]))
    assert answer.pictures == 2


# -- how they answer


def message(**parts):
    return completion(message={"role": "assistant"} | parts)


REPLY = json.dumps(GOOD)


@pytest.mark.parametrize(
    "answer",
    [
        message(content=[{"type": "text", "text": REPLY[:50]}, {"type": "output_text", "text": REPLY[50:]}]),
        message(content=None, reasoning_content=REPLY),
        message(content="", reasoning_content=f"I look closely.</think>{REPLY}"),
        message(content=REPLY, reasoning_content="Hm.", refusal=None, tool_calls=None, audio=None),
        completion(usage=None),
        completion(usage=MISSING),
        completion(usage={"prompt_tokens": 10.0, "completion_tokens": None, "total_tokens": "?"}),
        completion(usage={"prompt_tokens": "10", "completion_tokens": -1}),
        completion(usage=[]),
        completion(model=None),
        completion(model=MISSING),
        completion(model=7),
        completion(finish_reason=None),
        completion(finish_reason="eos"),
        completion(object="x", created="now", choices_extra=1),
        stream,
    ],
)
def test_no_habit_of_writing_voids_an_answer(vlm, assess, answer):
    vlm.then(answer)
    assert assess().action_match == 0.9
    assert len(vlm.requests) == 1


def test_a_stream_tells_what_it_cost(vlm, assess):
    vlm.then(stream)
    assert (assess().prompt_tokens, assess().completion_tokens) != (70, 30)
    vlm.then(stream)
    answer = assess()
    assert (answer.prompt_tokens, answer.completion_tokens) == (70, 30)


def test_an_error_under_status_200_is_an_error(vlm, assess):
    vlm.then(body(b'{"error": {"code": 429, "message": "slow down"}}'))
    assert assess().action_match == 0.9 and len(vlm.requests) == 2
    vlm.then(body(b'{"error": {"code": 401, "message": "no such key"}}'))
    with pytest.raises(TransientError, match="status 401"):
        assess()


def test_another_scale_is_asked_again_with_the_scale_named(vlm, assess):
    bad = {"action_match": 1, "perspective_correct": 1, "demonstration_quality": 0, "training_utility": 1}
    vlm.then(bad, {"action_match": 0.1})
    assert assess().action_match == 0.1
    first, second = vlm.requests
    assert "from 0.0 (worst) to 1.0 (best)" in second.text and "(worst)" not in first.text


def test_a_thought_that_is_cut_off_gets_more_room_and_is_switched_off(vlm, make_judge, question):
    vlm.then(completion(message={"content": "<think>Let me see"}, finish_reason="length"))
    judge = make_judge(vlm_max_answer_tokens=9000)
    assert judge.assess(question).action_match == 0.9
    assert judge.assess(question).action_match == 0.9
    first, second, third = vlm.requests
    assert first.body["max_tokens"] == 1500 and "chat_template_kwargs" not in first.body
    for later in (second, third):
        assert later.body["max_tokens"] == 9000
        assert later.body["chat_template_kwargs"] == {"enable_thinking": False}


def test_a_server_without_a_switch_for_thinking_is_spared_it(vlm, assess):
    vlm.habits = [refuses("chat_template_kwargs", "Unrecognized request argument: chat_template_kwargs")]
    vlm.then(completion(message={"content": "<think>Let me see"}, finish_reason="length"))
    assert assess().action_match == 0.9
    assert "chat_template_kwargs" not in vlm.requests[-1].body


# -- who is to blame

ABOUT_THE_VIDEO = "Pick up a mug"
CUT = completion(message={"content": "<think>Let me see"}, finish_reason="length")
FAULTS = {
    "nonsense": message(content="What a nice picture."),
    "other scale": message(content=json.dumps(GOOD | {"action_match": 8})),
    "refusal": message(content=None, refusal="I cannot help with that."),
    "content filter": completion(message={"content": None}, finish_reason="content_filter"),
    "cut": CUT,
    "403": status(403),
    "400": status(400),
    "500": status(500),
    "no completion": body(b"<html>"),
    "hang": hang(3),
}


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_the_video_is_suspected_if_known_pictures_are_judged(vlm, make_judge, question, fault):
    vlm.always(fault, when=ABOUT_THE_VIDEO)
    counter = LocalCounter()
    judge = impatient(make_judge, vlm, counter)
    with pytest.raises(TransientError) as caught:
        judge.assess(question)
    assert caught.value.suspect_video and caught.value.dependency is None
    assert counter.calls in {len(vlm.requests), MAX_JUDGE_CALLS}


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_the_judge_is_to_blame_if_they_are_not(vlm, make_judge, question, fault):
    vlm.always(fault)
    counter = LocalCounter()
    judge = impatient(make_judge, vlm, counter)
    with pytest.raises(TransientError) as caught:
        judge.assess(question)
    assert caught.value.dependency == "vlm" and not caught.value.suspect_video
    assert counter.calls == 0, "the judge's fault costs the submission nothing"


def impatient(make_judge, vlm, counter):
    settings = Settings(app_env="development", vlm_api_url=vlm.url, vlm_model=MODEL)
    patience = Patience(attempts=2, attempt_seconds=2, seconds=20)
    return Judge(Vlm(settings, patience=patience), settings, counter=counter)


def test_a_refusal_is_named_and_asked_once(vlm, make_judge, question):
    vlm.always(FAULTS["refusal"], when=ABOUT_THE_VIDEO)
    with pytest.raises(TransientError, match="refused to judge the video"):
        make_judge().assess(question)
    assert sum(ABOUT_THE_VIDEO in request.text for request in vlm.requests) == 1


def test_the_known_pictures_come_in_the_form_of_the_videos(vlm, make_judge, question):
    """Or what the server refuses of that form would be taken for the video's fault."""
    vlm.always(status(403), when=ABOUT_THE_VIDEO)
    with pytest.raises(TransientError):
        make_judge().assess(question)
    video, control = vlm.requests
    assert control.body | {"messages": 0, "seed": 0} == video.body | {"messages": 0}
    assert [image.size for image in control.images] == [image.size for image in video.images]


def test_a_redirect_names_where_it_leads_without_what_may_be_a_key(vlm, assess):
    vlm.then(redirect)
    with pytest.raises(TransientError, match=re.escape("https://elsewhere.example ")) as caught:
        assess()
    assert caught.value.dependency == "vlm" and "secret" not in caught.value.reason


# -- what a submission can cost


def calls_of(claim):
    with db.engine.connect() as connection:
        statement = "SELECT judge_calls FROM submissions WHERE id = %s"
        return connection.exec_driver_sql(statement, (claim.id,)).scalar_one()


@pytest.mark.parametrize("fault", ["nonsense", "refusal", "cut", "403", "500", "other scale"])
def test_no_submission_costs_more_than_so_many_calls_in_its_life(vlm, app, make_judge, question, fault):
    """Over attempts, processes and whoever evaluates it: the count is the database's."""
    vlm.always(FAULTS[fault], when=ABOUT_THE_VIDEO)
    with app.app_context():
        make_submission()
        for attempt in range(MAX_JUDGE_CALLS + 2):
            [claim] = service.claim_due(1, f"worker {attempt}", 60)
            memory = DatabaseMemory()
            with pytest.raises(TransientError) as caught:
                make_judge(memory.counter(claim), memory).assess(question)
            assert caught.value.suspect_video
            if fault == "cut":
                about = [request for request in vlm.requests if ABOUT_THE_VIDEO in request.text]
                assert len(about) == 3, "once is enough for what is cut off each time"
            service.release(claim, caught.value)
            with db.engine.begin() as connection:
                # also where a person was to look
                connection.exec_driver_sql("UPDATE submissions SET not_before = now(), held_at = NULL")
        assert len(vlm.requests) <= MAX_JUDGE_CALLS
        assert calls_of(claim) == MAX_JUDGE_CALLS
        assert f"asked {MAX_JUDGE_CALLS} times" in caught.value.reason


def test_an_outage_of_the_judge_costs_no_submission_its_calls(vlm, app, make_judge, question):
    vlm.always(status(503))
    with app.app_context():
        make_submission()
        [claim] = service.claim_due(1, "worker", 60)
        memory = DatabaseMemory()
        for _ in range(MAX_JUDGE_CALLS):
            with pytest.raises(TransientError) as caught:
                make_judge(memory.counter(claim), memory).assess(question)
            assert caught.value.dependency == "vlm"
        assert len(vlm.requests) > MAX_JUDGE_CALLS and calls_of(claim) == 0


def test_who_has_lost_the_claim_pays_nothing(vlm, app, make_judge, question):
    with app.app_context():
        make_submission()
        [claim] = service.claim_due(1, "worker", 60)
        lost = dataclasses.replace(claim, claim_token=claim.submission_uuid)
        with pytest.raises(TransientError):
            make_judge(DatabaseMemory().counter(lost)).assess(question)
        assert not vlm.requests


def test_the_ladder_of_sizes_only_goes_down():
    for size, smaller in itertools.pairwise(SIZES):
        assert smaller.within(size) == smaller != size


def test_stills_are_not_made_anew_where_they_need_not_be(vlm, assess, question):
    assess()
    sent = json.dumps(vlm.requests[0].body)
    assert all(jpeg_of(still) in sent for still in question.frames)


def jpeg_of(still: Still) -> str:
    return base64.b64encode(still.jpeg).decode()
