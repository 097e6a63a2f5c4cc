"""croissant.json: the data set told to machines, by Croissant 1.1 with its vocabulary of responsible AI."""

import json
from collections.abc import Iterable
from datetime import date, datetime
from typing import Any

from app.datasets import card
from app.datasets.columns import COLUMNS
from app.datasets.model import BuiltFile, Header
from app.datasets.plan import PARQUET
from app.datasets.summary import Summary
from app.enums import DataFormat

CONFORMS_TO = ["http://mlcommons.org/croissant/1.1", "http://mlcommons.org/croissant/RAI/1.0"]
CONTEXT = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "arrayShape": "cr:arrayShape",
    "citeAs": "cr:citeAs",
    "column": "cr:column",
    "conformsTo": "dct:conformsTo",
    "containedIn": "cr:containedIn",
    "cr": "http://mlcommons.org/croissant/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/",
    "description": {"@container": "@language"},
    "equivalentProperty": "cr:equivalentProperty",
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "extract": "cr:extract",
    "field": "cr:field",
    "fileProperty": "cr:fileProperty",
    "fileObject": "cr:fileObject",
    "fileSet": "cr:fileSet",
    "format": "cr:format",
    "includes": "cr:includes",
    "isArray": "cr:isArray",
    "isLiveDataset": "cr:isLiveDataset",
    "jsonPath": "cr:jsonPath",
    "key": "cr:key",
    "md5": "cr:md5",
    "name": {"@container": "@language"},
    "parentField": "cr:parentField",
    "path": "cr:path",
    "recordSet": "cr:recordSet",
    "references": "cr:references",
    "regex": "cr:regex",
    "repeated": "cr:repeated",
    "replace": "cr:replace",
    "samplingRate": "cr:samplingRate",
    "sc": "https://schema.org/",
    "separator": "cr:separator",
    "source": "cr:source",
    "subField": "cr:subField",
    "transform": "cr:transform",
}
DATA_TYPES = {
    bool: "sc:Boolean",
    int: "cr:Int64",
    float: "cr:Float64",
    str: "sc:Text",
    date: "sc:Date",
    datetime: "sc:DateTime",
}
PARQUET_TYPE = "application/x-parquet"
FILE_SETS = {
    DataFormat.LEROBOT: (
        ("lerobot-videos", "lerobot/*/videos/*/*/*.mp4", "video/mp4", "Films of several episodes, joined."),
        ("lerobot-frames", "lerobot/*/data/*/*.parquet", PARQUET_TYPE, "A row for each frame."),
        ("lerobot-episodes", "lerobot/*/meta/episodes/*/*.parquet", PARQUET_TYPE, "A row for each episode."),
    ),
    DataFormat.WEBDATASET: (
        ("webdataset-shards", "webdataset/*.tar", "application/x-tar", "An episode's film, facts and masks."),
    ),
}


def render(header: Header, summary: Summary, built: Iterable[BuiltFile]) -> str:
    """Return the description as JSON-LD. `built` has the Parquet file, if the release does."""
    files = {file.path: file for file in built if file.path == PARQUET}
    total = summary.total
    described: dict[str, Any] = {
        "@context": CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": CONFORMS_TO,
        "name": header.name,
        "description": (
            f"{total.seconds / 3600:,.2f} hours of first-person video in {total.episodes:,} episodes of "
            f"{len(summary.tasks):,} tasks, filmed by {len(summary.hotkeys):,} miners of the Kibotos subnet. "
            "Observations only."
        ),
        "license": card.licences(summary),
        "datePublished": header.created_at.isoformat(),
        "version": "1.0.0",
        "keywords": ["egocentric", "first-person", "video", "robotics"],
        "citeAs": f"{header.publisher or 'Kibotos'}: {header.name}, {header.created_at:%Y}.",
        "creator": {"@type": "sc:Organization", "name": header.publisher or "Kibotos"},
        "isLiveDataset": False,
        **({"url": header.url} if header.url else {}),
        **({"isBasedOn": header.predecessor} if header.predecessor else {}),
        **_responsible(header, summary),
        "distribution": [*map(_file, files.values()), *_file_sets(header)],
        "recordSet": [_record_set()] if files else [],
    }
    return json.dumps(described, indent=2, ensure_ascii=False) + "\n"


def _responsible(header: Header, summary: Summary) -> dict[str, Any]:
    judges = ", ".join(
        f"{model} (prompt {prompt}, Kibotos {software})" for model, prompt, software in sorted(summary.judges)
    )
    measured = "; ".join(f"{name}: {', '.join(sorted(by))}" for name, by in sorted(summary.by.items()))
    blurred = (
        "Faces were looked for in every frame and blurred, and some may have been missed."
        if header.blurred
        else "Faces were not blurred."
    )
    return {
        "rai:dataCollection": (
            "Miners of the Kibotos subnet film published tasks in the first person, sign a statement over "
            "the "
            "file's hash, upload it, and are paid by score."
        ),
        "rai:dataCollectionType": ["Physical data collection", "Direct measurement"],
        "rai:dataCollectionTimeframe": [summary.first.isoformat(), summary.last.isoformat()],
        "rai:dataPreprocessingProtocol": [
            f"Films by the recipe {summary.recipe}: constant frame rate, square pixels, one of five shapes, "
            "no "
            "sound, no metadata.",
            blurred,
        ],
        "rai:dataAnnotationProtocol": f"Scores by {judges}. "
        + (f"Attributes by {measured}." if measured else ""),
        "rai:machineAnnotationTools": sorted({each for by in summary.by.values() for each in by}),
        "rai:dataLimitations": list(card.LIMITS),
        "rai:dataBiases": [
            "Those who filmed were paid by score and chose their tasks; tasks, places and people are no fair "
            "sample of anything.",
            "A model judged which videos show their task: what it favours is in the data more often.",
        ],
        "rai:personalSensitiveInformation": [
            f"{blurred} Hands, rooms and things of people are to be seen. There is no sound, no place and no "
            "device. Miners are named by public keys.",
        ],
        "rai:dataUseCases": ["Training and evaluation of models of video, manipulation and robots."],
        "rai:dataSocialImpact": "Whoever filmed or was filmed can have an episode taken down.",
        "rai:dataReleaseMaintenancePlan": (
            "A release never changes. If an episode is taken down, a successor without it is made, and the "
            "release is no longer given out."
        ),
    }


def _file(file: BuiltFile) -> dict[str, Any]:
    return {
        "@type": "cr:FileObject",
        "@id": file.path,
        "name": file.path,
        "description": "All that is known of the episodes, a row each.",
        "contentUrl": file.path,
        "contentSize": f"{file.bytes} B",
        "encodingFormat": PARQUET_TYPE,
        "sha256": file.sha256,
    }


def _file_sets(header: Header) -> list[dict[str, Any]]:
    return [
        {
            "@type": "cr:FileSet",
            "@id": name,
            "name": name,
            "description": description,
            "encodingFormat": encoding,
            "includes": includes,
        }
        for each in header.formats
        for name, includes, encoding, description in FILE_SETS.get(each, ())
    ]


def _record_set() -> dict[str, Any]:
    return {
        "@type": "cr:RecordSet",
        "@id": "episodes",
        "name": "episodes",
        "description": "The episodes of the release.",
        "key": {"@id": "episodes/submission"},
        "field": [
            {
                "@type": "cr:Field",
                "@id": f"episodes/{column.name}",
                "name": column.name,
                "description": column.meaning,
                "dataType": DATA_TYPES[column.type],
                "source": {"fileObject": {"@id": PARQUET}, "extract": {"column": column.name}},
            }
            for column in COLUMNS
        ],
    }
