"""The data card: README.md, with the front matter that Hugging Face reads."""

import json
import re
from collections.abc import Iterable
from typing import Any

from app.datasets.columns import COLUMNS, MEANINGS
from app.datasets.model import Header
from app.datasets.plan import PARQUET, VIDEO_KEY
from app.datasets.summary import SCORE_STEPS, SCORES, Summary, Tally
from app.enums import DataFormat

# licences that Hugging Face knows by another name than their SPDX identifier in lower case
LICENCE_NAMES = {"odbl-1.0": "odbl", "pddl-1.0": "pddl", "odc-by-1.0": "odc-by"}
KNOWN_LICENCES = {
    "apache-2.0", "bsd-3-clause", "cc-by-2.0", "cc-by-2.5", "cc-by-3.0", "cc-by-4.0", "cc-by-nc-2.0",
    "cc-by-nc-3.0", "cc-by-nc-4.0", "cc-by-nc-nd-3.0", "cc-by-nc-nd-4.0", "cc-by-nc-sa-2.0",
    "cc-by-nc-sa-3.0", "cc-by-nc-sa-4.0", "cc-by-nd-4.0", "cc-by-sa-3.0", "cc-by-sa-4.0", "cc0-1.0",
    "cdla-permissive-1.0", "cdla-permissive-2.0", "cdla-sharing-1.0", "mit", "odbl", "odc-by",
    "pddl", "unlicense",
}  # fmt: skip
SIZES = (
    (10**3, "n<1K"),
    (10**4, "1K<n<10K"),
    (10**5, "10K<n<100K"),
    (10**6, "100K<n<1M"),
    (10**7, "1M<n<10M"),
)
# of the tasks that most was filmed of
MOST_TASKS = 25
HANDS = (("no hand", "hands_none"), ("one hand", "hands_one"), ("two hands", "hands_two"))
LIMITS = (
    "The pictures are re-encoded and brought to one of five shapes; black bars fill the rest. Small "
    "recordings are enlarged, so pixels do not tell the camera's resolution: `source_width` and "
    "`source_height` do.",
    "The frame rate is constant: where a recording had another, frames are repeated or left out, and each is "
    "shown at most half a frame early or late.",
    "There are no actions, and no robot states: nobody measured them. Camera intrinsics are what the miner "
    "declared, of the original picture; nobody checked them.",
    "Who acts and where the camera was worn are the miners' words.",
    "Scores come from a model that looks at still pictures of the video. It can be wrong.",
    "Those who filmed were paid by score and chose the tasks that suited them, so tasks, places and people "
    "are no fair sample of anything.",
    "How many faces are found was measured on labelled frames of other footage; docs/privacy.md of Kibotos "
    "tells.",
    "Detectors miss hands, faces, writing and plates, and see some that are not there. A face that was "
    "missed is not blurred.",
)  # fmt: skip


def render(header: Header, summary: Summary) -> str:
    """Return the card in Markdown."""
    return f"---\n{_front_matter(header, summary)}---\n\n{_body(header, summary)}"


def licences(summary: Summary) -> list[str]:
    """Return the SPDX identifiers of the episodes' licences."""
    return sorted(summary.licences)


def escape(text: str) -> str:
    """Return a stranger's text as plain words in Markdown."""
    return re.sub(r"[\\`*_\[\]<>|&~]", lambda found: f"&#{ord(found[0])};", " ".join(text.split()))


def how_to_load(header: Header, summary: Summary) -> dict[DataFormat, str]:
    """Return for each format of a release the Python that opens it."""
    size = sorted(summary.sizes)[0]
    code = {
        DataFormat.LEROBOT: f"""from lerobot.datasets.lerobot_dataset import LeRobotDataset

data = LeRobotDataset("{header.name}", root="lerobot/{size}")
frame = data[0]["{VIDEO_KEY}"]  # 3 x height x width, 0 to 1""",
        DataFormat.WEBDATASET: f"""import glob, webdataset

shards = sorted(glob.glob("webdataset/{min(summary.splits, key=_split_order)}-*.tar"))
for sample in webdataset.WebDataset(shards, shardshuffle=False).decode():
    film, facts = sample["mp4"], sample["json"]""",
        DataFormat.PARQUET: f"""import duckdb

duckdb.sql("SELECT task, sum(seconds) / 3600 AS hours FROM '{PARQUET}' GROUP BY task")""",
    }
    return {each: code[each] for each in DataFormat if each in header.formats}


def _split_order(name: str) -> int:
    return ("train", "validation", "test").index(name)


def _front_matter(header: Header, summary: Summary) -> str:
    names = sorted({_licence_name(each) for each in summary.licences})
    lines = ["license: " + (names[0] if len(names) == 1 else json.dumps(names))]
    if names == ["other"]:
        lines.append("license_name: " + json.dumps(", ".join(licences(summary)), ensure_ascii=False))
    lines.append("pretty_name: " + json.dumps(header.name, ensure_ascii=False))
    size = next((name for most, name in SIZES if summary.total.episodes < most), "10M<n<100M")
    lines += [
        "size_categories:",
        f"  - {size}",
        "task_categories:",
        "  - robotics",
        "  - video-classification",
    ]
    tags = ["egocentric", "first-person", "video", "kibotos"]
    tags += ["LeRobot"] if DataFormat.LEROBOT in header.formats else []
    tags += ["webdataset"] if DataFormat.WEBDATASET in header.formats else []
    lines += ["tags:", *(f"  - {tag}" for tag in tags)]
    configs = []
    if DataFormat.PARQUET in header.formats:
        configs += ["  - config_name: episodes", "    default: true", f"    data_files: {PARQUET}"]
    if DataFormat.WEBDATASET in header.formats:
        configs += ["  - config_name: webdataset", "    data_files:"]
        for split in sorted(summary.splits, key=_split_order):
            configs += [f"      - split: {split}", f"        path: webdataset/{split}-*.tar"]
    lines += ["configs:", *configs] if configs else []
    return "\n".join(lines) + "\n"


def _licence_name(spdx: str) -> str:
    name = LICENCE_NAMES.get(spdx.lower(), spdx.lower())
    return name if name in KNOWN_LICENCES else "other"


def _body(header: Header, summary: Summary) -> str:
    sections = [
        f"# {escape(header.name)}",
        _introduction(header, summary),
        "## What is in it",
        _overview(header, summary),
        "### Categories",
        _tallies("category", summary.categories, summary),
        "### Tasks",
        _tasks(summary),
        "### Splits",
        "Near duplicates and pieces of one recording, and all videos of one miner, lie in one split. The "
        "split of an episode is the same in every release.",
        _tallies("split", summary.splits, summary),
        "### Cameras and actors",
        _tallies("camera", summary.cameras, summary),
        _tallies("actor", summary.actors, summary),
        "### Pictures",
        f"All films are made by the recipe `{summary.recipe}`: {summary.fps} frames a second, square pixels, "
        "no sound, no metadata. Made with " + ", ".join(escape(tool) for tool in sorted(summary.tools)) + ".",
        _tallies("size of the films", summary.sizes, summary),
        _tallies("recorded in", summary.resolutions, summary),
        "## What was measured",
        _attributes(summary),
        "## Scores, and who judged",
        _scores(summary),
        _judges(summary),
        "## Privacy, licence and consent",
        _privacy(header),
        _tallies("licence (SPDX)", summary.licences, summary),
        _tallies("consent of the filmed people", summary.consents, summary),
        "## Known limits",
        "\n".join(f"- {limit}" for limit in LIMITS),
        "## How to load it",
        _loading(header, summary),
        "## Columns",
        "The same columns are in the Parquet file, in the JSON of WebDataset and in `meta/episodes` of "
        "LeRobot.",
        _table(
            ("column", "meaning"),
            ((f"`{each.name}`", each.meaning) for each in COLUMNS),
        ),
        "## How it was made",
        _made(header),
    ]
    return "\n\n".join(sections) + "\n"


def _introduction(header: Header, summary: Summary) -> str:
    said = (
        f"First-person videos of {len(summary.tasks):,} tasks, filmed by {len(summary.hotkeys):,} miners of "
        "the Kibotos subnet and accepted by its evaluation. The data are observations only."
    )
    if header.predecessor:
        said += f" This release replaces {escape(header.predecessor)}."
    return said


def _overview(header: Header, summary: Summary) -> str:
    total = summary.total
    rows = [
        ("hours", _hours(total.seconds)),
        ("episodes", f"{total.episodes:,}"),
        ("frames", f"{summary.frames:,}"),
        ("mean length", f"{total.seconds / total.episodes:.1f} s"),
        ("median length", f"{summary.median_seconds:.1f} s"),
        ("miners", f"{len(summary.hotkeys):,}"),
        ("hours a miner", _hours(total.seconds / len(summary.hotkeys))),
        ("frames a second", str(summary.fps)),
        ("size of the films", f"{summary.bytes / 1e6:,.1f} MB"),
        ("with declared intrinsics", _share(summary.intrinsics, total.episodes)),
        ("submitted", f"{summary.first:%Y-%m-%d} to {summary.last:%Y-%m-%d}"),
        ("formats", ", ".join(header.formats)),
    ]
    return _table(("", ""), rows)


def _tallies(name: str, tallies: dict[str, Tally], summary: Summary) -> str:
    rows = [
        (
            escape(kind),
            f"{tally.episodes:,}",
            _hours(tally.seconds),
            _share(tally.seconds, summary.total.seconds),
        )
        for kind, tally in sorted(tallies.items(), key=lambda item: (-item[1].seconds, item[0]))
    ]
    return _table((name, "episodes", "hours", "share of time"), rows)


def _tasks(summary: Summary) -> str:
    most = dict(sorted(summary.tasks.items(), key=lambda item: (-item[1].seconds, item[0]))[:MOST_TASKS])
    table = _tallies("task", most, summary)
    left = len(summary.tasks) - len(most)
    return table + (f"\n\nAnd {left:,} other tasks." if left else "")


def _attributes(summary: Summary) -> str:
    if not summary.attributes:
        return "Nothing was measured besides the scores."
    paragraphs = []
    if all(name in summary.attributes for _, name in HANDS):
        seen = {label: summary.attributes[name].mean for label, name in HANDS}
        seen["one hand or more"] = seen["one hand"] + seen["two hands"]
        paragraphs += [
            "Hands in sight, in the form in which Egocentric-10K tells them. Its detector was another.",
            _table(("", "share of frames"), ((label, f"{share:.1%}") for label, share in seen.items())),
        ]
    rows = []
    for name, spread in summary.attributes.items():
        by = ", ".join(sorted(summary.by.get(name, ()))) or "-"
        low, mean, high = (f"{value:.3f}" for value in (spread.low, spread.mean, spread.high))
        rows.append(
            (f"`{name}`", MEANINGS.get(name, ""), f"{spread.episodes:,}", low, mean, high, escape(by))
        )
    paragraphs.append(
        "Each value is of an episode; the mean is weighted by time. None of them is part of a score."
    )
    heads = ("attribute", "what it is", "episodes", "least", "mean", "most", "measured by")
    paragraphs.append(_table(heads, rows))
    if summary.flags:
        flagged = ", ".join(f"{escape(kind)} in {count:,}" for kind, count in sorted(summary.flags.items()))
        paragraphs.append(f"Episodes with something that may tell who or where it is: {flagged}.")
    return "\n\n".join(paragraphs)


def _scores(summary: Summary) -> str:
    rows = []
    for step in range(SCORE_STEPS):
        low, high = step / SCORE_STEPS, (step + 1) / SCORE_STEPS
        rows.append((f"{low:.1f} to {high:.1f}", *(f"{summary.scores[name][step]:,}" for name in SCORES)))
    rows.append(("mean", *(f"{summary.mean_score(name):.3f}" for name in SCORES)))
    text = (
        "final = 0.2 technical + 0.5 relevance + 0.3 quality. Technical is the share of technical checks "
        "that were passed, relevance is what the judge says of stills of the video, and quality is measured. "
        "Episodes by score:"
    )
    return f"{text}\n\n{_table(('score', *(name.removesuffix('_score') for name in SCORES)), rows)}"


def _judges(summary: Summary) -> str:
    rows = [
        (*map(escape, judge), f"{tally.episodes:,}", _share(tally.episodes, summary.total.episodes))
        for judge, tally in sorted(summary.judges.items())
    ]
    return _table(("judged by", "version of the prompt", "Kibotos", "episodes", "share"), rows)


def _privacy(header: Header) -> str:
    blurred = (
        "Faces were looked for in every frame and blurred; WebDataset holds the masks beside the films. "
        if header.blurred
        else "Faces were NOT blurred. "
    )
    return (
        f"{blurred}There is no sound. Nothing that a camera wrote beside the picture, such as place, time or "
        "device, is in the films. Number plates and screens that can be read are flagged, not removed. The "
        "original files are not part "
        "of the release. Whoever filmed or was filmed can have an episode taken down; a release without it "
        "follows then."
    )


def _loading(header: Header, summary: Summary) -> str:
    parts = []
    for each, code in how_to_load(header, summary).items():
        parts.append(f"{each}:\n\n```python\n{code}\n```")
    if DataFormat.LEROBOT in header.formats and len(summary.sizes) > 1:
        sizes = ", ".join(f"`lerobot/{size}`" for size in sorted(summary.sizes))
        parts.append(f"LeRobot wants pictures of one size in a data set, so there is one for each: {sizes}.")
    return "\n\n".join(parts) or "This release holds its card alone."


def _made(header: Header) -> str:
    rows = [
        (escape(name), escape(json.dumps(value, ensure_ascii=False, default=str)))
        for name, value in header.rules.items()
    ]
    versions = [(escape(name), escape(version)) for name, version in sorted(header.versions.items())]
    by = f" by {escape(header.publisher)}" if header.publisher else ""
    return "\n\n".join(
        [
            f"Frozen on {header.created_at:%Y-%m-%d}{by}. Episodes were chosen by these rules:",
            _table(("rule", "value"), rows),
            "Software:",
            _table(("name", "version"), versions),
        ]
    )


def _table(heads: Iterable[str], rows: Iterable[Iterable[Any]]) -> str:
    heads = list(heads)
    lines = [heads, ["---"] * len(heads), *map(list, rows)]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)


def _hours(seconds: float) -> str:
    hours = seconds / 3600
    return f"{hours:,.2f}" if hours >= 1 else f"{hours:.4f}"


def _share(part: float, whole: float) -> str:
    return f"{part / whole:.1%}" if whole else "-"
