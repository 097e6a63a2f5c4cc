import csv
import json

import pytest

import cli
from app.prompts.files import read_prompts
from app.prompts.similarity import is_near_repeat
from app.prompts.taxonomy import TAXONOMY
from tests import factories

STARTER = cli.ROOT / "app" / "prompts" / "starter.json"


@pytest.fixture
def run(run_kibotos, database):
    return lambda *arguments, **environ: run_kibotos("prompts", *arguments, DATABASE_URL=database, **environ)


def prompt(**changes):
    return {"id": "p-1", "category": "household", "task": "sweep", "scenario": "Sweep the floor."} | changes


def listed(run, *options):
    return json.loads(run("list", "--json", *options).stdout)


def test_the_starter_set_loads_and_spreads_over_the_categories(run):
    assert run("load", str(STARTER)).stdout == "55 added, 0 changed.\n"
    counts = {name: len(listed(run, "--category", name.value)) for name in TAXONOMY}
    assert counts == dict.fromkeys(TAXONOMY, 11)
    scenarios = [each["scenario"] for each in listed(run)]
    repeats = [s for n, s in enumerate(scenarios) if is_near_repeat(s, scenarios[:n])]
    assert repeats == []


def test_the_starter_prompts_for_robots_take_their_frame_rates():
    robots = [each for each in read_prompts(STARTER) if "robot" in each.scenario]
    assert {each.category for each in robots} == set(TAXONOMY)
    assert {(each.requirements["min_fps"], each.requirements["max_fps"]) for each in robots} == {(5, 60)}


def test_every_task_of_the_starter_set_is_in_the_taxonomy():
    for each in read_prompts(STARTER):
        assert each.task in TAXONOMY[each.category].tasks


@pytest.mark.parametrize("suffix", [".json", ".jsonl", ".csv"])
def test_a_file_of_each_kind_loads(run, tmp_path, suffix):
    file = tmp_path / f"prompts{suffix}"
    entries = [
        prompt(requirements={"min_duration": 5}, weight=2.0, expires_at="2099-01-01T00:00:00Z"),
        prompt(id="p-2", scenario='Say "well, done", please.'),
    ]
    if suffix == ".json":
        file.write_text(json.dumps(entries))
    elif suffix == ".jsonl":
        file.write_text("\n".join(map(json.dumps, entries)))
    else:
        with file.open("w", newline="") as opened:
            writer = csv.DictWriter(opened, list(entries[0]))
            writer.writeheader()
            writer.writerow(entries[0] | {"requirements": json.dumps(entries[0]["requirements"])})
            writer.writerow(entries[1])
    assert run("load", str(file)).stdout == "2 added, 0 changed.\n"
    first, second = listed(run)
    assert (first["requirements"], first["weight"]) == ({"min_duration": 5}, 2.0)
    assert first["expires_at"] == "2099-01-01T00:00:00Z"
    assert (second["scenario"], second["requirements"], second["weight"]) == (entries[1]["scenario"], {}, 1.0)


def test_one_wrong_entry_and_nothing_is_loaded(run, tmp_path):
    file = tmp_path / "prompts.json"
    wrong = [prompt(), prompt(id="p-2", category="cooking"), prompt(id="p-1"), prompt(id="p 3", weight=-1)]
    file.write_text(json.dumps(wrong))
    result = run("load", str(file))
    assert result.exit_code == 1
    for place in ("2.category", "3.id", "4.id", "4.weight"):
        assert f"entry {place}: " in result.output
    assert listed(run) == []


@pytest.mark.parametrize(
    ("name", "text"), [("a.json", "{"), ("a.json", "{}"), ("a.txt", ""), ("a.csv", 'id\n"x')]
)
def test_a_file_that_is_none_is_refused(run, tmp_path, name, text):
    (tmp_path / name).write_text(text)
    result = run("load", str(tmp_path / name))
    assert result.exit_code == 1
    assert result.output.startswith(f"Error: {name} cannot be read: ")


def test_existing_prompts_change_only_with_update(run, tmp_path):
    file = tmp_path / "prompts.json"
    file.write_text(json.dumps([prompt()]))
    run("load", str(file))
    file.write_text(json.dumps([prompt(weight=3.0, scenario="Sweep the stairs."), prompt(id="p-2")]))
    refused = run("load", str(file))
    assert refused.exit_code == 1
    assert "p-1 exist already" in refused.output
    assert len(listed(run)) == 1
    assert run("load", "--update", str(file)).stdout == "1 added, 1 changed.\n"
    assert listed(run)[0]["scenario"] == "Sweep the stairs."


def test_the_text_of_an_answered_prompt_cannot_change(run, tmp_path, app):
    with app.app_context():
        factories.make_prompt(**prompt())
        factories.insert("prompt_submission_counts", prompt_id="p-1", shard=0, n=1)
    file = tmp_path / "prompts.json"
    file.write_text(json.dumps([prompt(scenario="Sweep the stairs.")]))
    assert "have submissions" in run("load", "--update", str(file)).output
    file.write_text(json.dumps([prompt(weight=0.5)]))
    assert run("load", "--update", str(file)).stdout == "0 added, 1 changed.\n"
    assert (listed(run)[0]["scenario"], listed(run)[0]["weight"]) == ("Sweep the floor.", 0.5)


def test_a_retired_prompt_is_no_longer_listed(run, app):
    with app.app_context():
        factories.make_prompt(id="old")
    assert run("retire", "old").exit_code == 0
    assert listed(run) == []
    assert [each["id"] for each in listed(run, "--all")] == ["old"]
    assert "There is no prompt unknown" in run("retire", "unknown").output


def test_stats_count_by_outcome(run, app):
    with app.app_context():
        busy, _idle = factories.make_prompt(id="busy"), factories.make_prompt(id="idle")
        done = {"evaluated_at": "2026-01-01T00:00:00Z"}
        factories.make_submission(prompt_id=busy)
        factories.make_submission(prompt_id=busy, status="REJECTED", final_score=0, **done)
        for score in (0.5, 0.9):
            factories.make_submission(prompt_id=busy, status="SCORED", final_score=score, **done)
    first, second = json.loads(run("stats", "--json").stdout)
    assert first == {
        "id": "busy",
        "category": "manipulation",
        "submissions": 4,
        "open": 1,
        "scored": 2,
        "rejected": 1,
        "mean_score": 0.7,
    }
    assert (second["id"], second["submissions"], second["mean_score"]) == ("idle", 0, None)
    assert "busy" in run("stats").stdout
    assert "busy" in run("list").stdout


def test_brackets_in_a_task_are_no_markup(run, tmp_path):
    file = tmp_path / "prompts.json"
    file.write_text(json.dumps([prompt(id="m-1", scenario="Turn [bold] the [left] valve.")]))
    run("load", str(file))
    assert "[bold]" in run("list").stdout and "[left]" in run("list").stdout


def draft(scenario, **changes):
    return {"task": "sweep", "scenario": scenario, "min_seconds": 5, "max_seconds": 60} | changes


def test_generate_drafts_what_is_new_into_a_file(run, app, vlm, tmp_path):
    known = "Sweep the crumbs under the kitchen table into a dustpan and empty it."
    with app.app_context():
        factories.make_prompt(id="household-01", category="household", scenario=known)
    fresh = "Iron a creased shirt on a board, collar first, and hang it on a hanger."
    other = "Water three plants on the balcony with a can until their saucers hold water."
    vlm.then(
        json.dumps({"drafts": [draft(known.replace("crumbs", "crumb")), draft(fresh), draft(fresh)]}),
        "no JSON at all",
        "```json\n"
        + json.dumps({"drafts": [draft(other), draft("Unused, there are enough by now.")]})
        + "\n```",
    )
    output = tmp_path / "drafts.json"
    options = ("--category", "household", "--count", "2", "--output", str(output))
    environ = {"VLM_API_URL": vlm.url, "VLM_MODEL": vlm.model, "APP_ENV": "development"}
    result = run("generate", *options, **environ)
    assert result.exit_code == 0, result.output
    drafts = read_prompts(output)
    assert [(each.id, each.scenario) for each in drafts] == [("household-02", fresh), ("household-03", other)]
    assert drafts[0].requirements == {"min_duration": 5, "max_duration": 60}
    assert run("load", str(output)).stdout == "2 added, 0 changed.\n"
    assert "exists" in run("generate", *options, **environ).output


def test_generate_without_a_model_says_so(run, tmp_path):
    result = run("generate", "--category", "household", "--output", str(tmp_path / "x.json"))
    assert result.output.startswith("Error: VLM_API_URL is not set")


@pytest.mark.parametrize("command", ["list", "stats"])
def test_ids_are_whole_in_80_columns(run, tmp_path, command):
    ids = ["locomotion-stairs-outdoors-wet-001", "m-1"]
    scenario = "Walk up a flight of stairs outdoors while it rains, and hold the handrail with one hand."
    file = tmp_path / "prompts.json"
    file.write_text(json.dumps([prompt(id=id, scenario=f"{scenario} {id}") for id in ids]))
    run("load", str(file))
    lines = run(command, COLUMNS="80").stdout.splitlines()
    assert max(map(len, lines)) <= 80
    assert all(any(f" {id} " in line for line in lines) for id in ids)
