"""Prompts in files: JSON (an array), JSONL or CSV, told apart by the file's suffix."""

import csv
import io
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from app.errors import Invalid
from app.prompts.models import NewPrompt

COLUMNS = ("id", "category", "task", "scenario", "requirements", "weight", "expires_at")


def read_prompts(path: Path) -> list[NewPrompt]:
    """Return all prompts of a file. Raises Invalid, naming every entry that is wrong and how.

    A CSV file has COLUMNS in its first line, of which the last three may be missing or empty;
    `requirements` is a JSON object.
    """
    try:
        text = path.read_text("utf-8-sig")
        entries = list(_entries(text, path.suffix.lower()))
    except (UnicodeDecodeError, ValueError, csv.Error) as error:
        raise Invalid(f"{path.name} cannot be read: {error}", []) from error
    prompts, errors = [], []
    seen: set[str] = set()
    for number, entry in enumerate(entries, 1):
        try:
            prompt = NewPrompt.model_validate(entry)
        except ValidationError as error:
            errors += [
                {"field": f"{number}.{'.'.join(map(str, wrong['loc']))}", "message": wrong["msg"]}
                for wrong in error.errors(include_url=False, include_input=False, include_context=False)
            ]
            continue
        if prompt.id in seen:
            errors.append({"field": f"{number}.id", "message": f"{prompt.id} is in the file twice"})
        seen.add(prompt.id)
        prompts.append(prompt)
    if errors:
        told = "; ".join(f"entry {each['field']}: {each['message']}" for each in errors[:20])
        raise Invalid(f"Nothing was loaded from {path.name}. Correct {told}.", errors)
    return prompts


def _entries(text: str, suffix: str) -> Iterable[Any]:
    if suffix == ".json":
        entries = json.loads(text)
        if not isinstance(entries, list):
            raise ValueError("it must hold an array of prompts.")
        return entries
    if suffix == ".jsonl":
        return [json.loads(line) for line in text.splitlines() if line.strip()]
    if suffix == ".csv":
        return [_from_csv(row) for row in csv.DictReader(io.StringIO(text), strict=True)]
    raise ValueError("its name must end in .json, .jsonl or .csv.")


def _from_csv(row: dict[str, Any]) -> dict[str, Any]:
    entry: dict[str, Any] = {name: row[name] for name in COLUMNS if row.get(name)}
    if "requirements" in entry:
        entry["requirements"] = json.loads(entry["requirements"])
    if "weight" in entry:
        entry["weight"] = float(entry["weight"])
    return entry


def write_prompts(path: Path, prompts: list[dict[str, Any]]) -> None:
    """Write a .json, .jsonl or .csv file that read_prompts understands. Raises FileExistsError."""
    with path.open("x", encoding="utf-8", newline="") as file:
        if path.suffix.lower() == ".csv":
            writer = csv.DictWriter(file, COLUMNS)
            writer.writeheader()
            for prompt in prompts:
                writer.writerow(prompt | {"requirements": json.dumps(prompt["requirements"])})
            return
        lines = [json.dumps(prompt, ensure_ascii=False) for prompt in prompts]
        jsonl = path.suffix.lower() == ".jsonl"
        file.write("\n".join(lines) + "\n" if jsonl else "[\n  " + ",\n  ".join(lines) + "\n]\n")
