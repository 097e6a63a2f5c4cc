"""The OpenAPI document: complete, true of the live server, and readable."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from uuid import UUID

import pytest

from tests import factories
from tests.api.conftest import PRODUCTION

SCHEMATHESIS = """
[checks.positive_data_acceptance]
# what no schema can say (canonical addresses, known prompts) is refused with 422 as well
expected-statuses = ["2xx", "401", "403", "404", "409", "422", "429"]
[checks.negative_data_rejection]
expected-statuses = ["4xx"]
"""


@pytest.fixture
def document(client):
    return client.get("/openapi.json").json


def test_every_endpoint_is_in_the_document(app, document):
    """Pages for people are no endpoints."""
    undocumented = {"/openapi.json", "/docs"}
    rules = {
        re.sub(r"<(?:[^<>:]+:)?(\w+)>", r"{\1}", rule.rule)
        for rule in app.url_map.iter_rules()
        if not rule.endpoint.startswith(("pages.", "admin."))
    }
    assert rules - undocumented == set(document["paths"])


def test_every_error_is_a_problem_document(document):
    for path, operations in document["paths"].items():
        for operation in operations.values():
            for status, answer in operation["responses"].items():
                if status >= "400" and path != "/ready":
                    assert list(answer["content"]) == ["application/problem+json"], (path, status)


def role_of(path):
    if path == "/metrics":
        return "metrics"
    if path.startswith("/v1/admin/"):
        return "admin"
    if path.startswith("/v1/evaluate/"):
        return "evaluator"
    own = path.startswith(("/v1/upload/", "/v1/webhooks", "/v1/miners/")) or path.endswith(
        ("/video-link", "/submissions/check")
    )
    return "miner" if own else None


def test_every_endpoint_is_for_the_role_of_the_contract(make_app, document):
    """In the document, and in fact: without credentials each endpoint of a role answers 401."""
    client = make_app(**PRODUCTION).test_client()
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            role = role_of(path)
            assert operation.get("security", []) == ([{role: []}] if role else []), path
            uuids = re.sub("{(submission_uuid|webhook|delivery)}", str(UUID(int=1)), path)
            address = re.sub(r"{\w+}", "1", uuids.replace("{hotkey}", factories.miner().ss58_address))
            answer = client.open(address, method=method, json={})
            assert (answer.status_code == 401) == bool(role), path
    assert set(document["components"]["securitySchemes"]) == {"admin", "evaluator", "metrics", "miner"}


def test_every_reference_leads_somewhere(document):
    references = set(re.findall(r"#/components/schemas/(\w+)", str(document)))
    assert references and references <= set(document["components"]["schemas"])


def test_times_ids_and_nulls_are_what_they_are(document):
    schemas = document["components"]["schemas"]
    assert schemas["PromptOut"]["properties"]["created_at"]["format"] == "date-time"
    assert schemas["SubmitIn"]["properties"]["submission_id"]["format"] == "int64"
    assert {"type": "null"} not in schemas["PromptChange"]["properties"]["weight"].get("anyOf", [])
    assert {"type": "null"} in schemas["PromptChange"]["properties"]["expires_at"]["anyOf"]
    for path, operations in document["paths"].items():
        for operation in operations.values():
            for status in operation["responses"].keys() & {"200", "201"}:
                assert operation["responses"][status]["content"], path


# Run in a process of its own, since it imports what was generated.
USE_OF_THE_CLIENT = """
import datetime, inspect, pkgutil, importlib, sys, typing
import generated.api
from generated import AuthenticatedClient
from generated.api.admin import patch_v1_admin_prompts_prompt_id, post_v1_admin_prompts
from generated.api.evaluation import post_v1_evaluate_fetch
from generated.api.health import get_metrics
from generated.api.prompts import get_v1_prompts
from generated.models import Category, FetchIn, NewPrompt, PromptChange, Problem

for module in pkgutil.walk_packages(generated.api.__path__, "generated.api."):
    if module.name.count(".") == 3:
        operation = importlib.import_module(module.name)
        answers = typing.get_args(typing.get_type_hints(operation.sync)["return"])
        assert [each for each in answers if each not in (typing.Any, type(None))], module.name

client = AuthenticatedClient(sys.argv[1], token="not needed in development")
new = NewPrompt(id="p-1", category=Category.HOUSEHOLD, task="wash", scenario="Wash a plate.")
made = post_v1_admin_prompts.sync(client=client, body=new)
assert isinstance(made.created_at, datetime.datetime) and made.category is Category.HOUSEHOLD
changed = patch_v1_admin_prompts_prompt_id.sync("p-1", client=client, body=PromptChange(weight=2.0))
assert changed.weight == 2.0
assert [prompt.id for prompt in get_v1_prompts.sync(client=client)] == ["p-1"]
assert post_v1_evaluate_fetch.sync(client=client, body=FetchIn(limit=0)).pending == 0
assert "kibotos" in get_metrics.sync(client=client)
assert isinstance(post_v1_admin_prompts.sync(client=client, body=new), Problem)
"""


def test_the_client_that_is_generated_from_it_is_typed_and_works(serve, document, tmp_path):
    (tmp_path / "openapi.json").write_text(json.dumps(document))
    # its formatter is looked for on the PATH
    environ = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    generate = ["generate", "--path", "openapi.json", "--output-path", "generated", "--meta", "none"]
    commands = (
        [str(Path(sys.executable).with_name("openapi-python-client")), *generate, "--fail-on-warning"],
        [sys.executable, "-c", USE_OF_THE_CLIENT, serve()],
    )
    for command in commands:
        done = subprocess.run(command, cwd=tmp_path, env=environ, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stdout + done.stderr


def test_the_page_shows_every_endpoint_and_fetches_nothing(client, document):
    answer = client.get("/docs")
    page = answer.text
    assert answer.content_type == "text/html; charset=utf-8"
    assert all(path in page for path in document["paths"])
    assert set(re.findall(r'href="#(\w+)"', page)) <= set(re.findall(r'id="(\w+)"', page))
    assert not re.search(r"https?://|<script|src=|@import|url\(", page)


def test_the_live_server_does_what_the_document_says(serve, app, tmp_path):
    """Schemathesis: every check, on a few hundred requests it makes up, as every role."""
    with app.app_context():
        cycle = factories.make_cycle("COMPLETED", block_number=1, block_number_is_current=True)
        factories.make_submission(
            cycle_id=cycle, status="REJECTED", evaluated_at="now", final_score=0, attempts=1
        )
        factories.make_cycle()
    url = serve(**PRODUCTION, max_presigns_per_hour=100_000)
    (tmp_path / "schemathesis.toml").write_text(SCHEMATHESIS)
    done = subprocess.run(
        [
            *(sys.executable, "-m", "schemathesis.cli", "run", f"{url}/openapi.json", "--checks", "all"),
            *("--phases", "examples,coverage,fuzzing", "--max-examples", "8", "--generation-deterministic"),
            *("--continue-on-failure", "--warnings", "off", "--no-color"),
            # those of admins are the same code
            *("--exclude-path-regex", "^/v1/webhooks"),
        ],
        cwd=tmp_path,
        env=os.environ
        | {"SCHEMATHESIS_HOOKS": "tests.api.schemathesis_auth", "PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
        timeout=480,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    log = "".join(file.read_text() for file in tmp_path.glob("web-*.log"))
    assert re.search(r'presign", "status": 200', log)  # the signatures were good
