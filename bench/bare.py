"""The floor: bare Flask views with one statement each, on the same driver and gunicorn.

What reads does so by psycopg2 in autocommit, on a connection of its thread that nobody asks whether it still
lives. It sends by `jsonify` what the application answers to the request that it is compared with.
"""

import json
import os
import threading
from functools import cache
from pathlib import Path

import boto3
import psycopg2
from flask import Flask, jsonify, request
from sqlalchemy import create_engine, make_url, text

from app.config import Settings

app = Flask(__name__)
settings = Settings.from_environ()
engine = create_engine(settings.database_url, pool_size=5, max_overflow=0)

INSERT = text("INSERT INTO bench_bare (payload) VALUES (CAST(:payload AS jsonb)) RETURNING id")
SELECTS = {
    "submission": """
        SELECT s.uuid::text, s.prompt_id, s.miner_uid, s.video_key, s.status, s.submitted_at, s.evaluated_at,
               s.cycle_id, s.attempts, s.final_score, s.licence, e.technical_score, e.relevance_score,
               e.quality_score, e.rejection_reason, e.judge_model
        FROM submissions s LEFT JOIN evaluations e ON e.submission_id = s.id WHERE s.uuid = %s
    """,
    "prompt": "SELECT * FROM prompts WHERE id = %s",
    "prompts": "SELECT * FROM prompts WHERE id <> %s ORDER BY id",
    "status": """
        SELECT max(id) FILTER (WHERE status = 'ACTIVE'), max(started_at) FILTER (WHERE status = 'ACTIVE'),
               min(id) FILTER (WHERE status = 'EVALUATING'), max(id) FILTER (WHERE status = 'COMPLETED'),
               count(*)
        FROM cycles WHERE status <> %s
    """,
    "scores": "SELECT * FROM miner_scores WHERE cycle_id = %s ORDER BY total_score DESC",
    "weights": "SELECT * FROM computed_weights WHERE cycle_id = %s ORDER BY miner_uid",
}
connections = threading.local()


@app.post("/insert")
def insert():
    with engine.begin() as connection:
        id = connection.execute(INSERT, {"payload": request.get_data(as_text=True)}).scalar_one()
    return jsonify(id=id), 201


@app.post("/head-and-insert")
def head_and_insert():
    storage().head_object(Bucket=settings.s3_bucket, Key=request.get_json()["video_key"])
    return insert()


@cache
def storage():
    return boto3.client(
        "s3",
        endpoint_url=settings.s3_endpoint,
        region_name=settings.s3_region,
        aws_access_key_id=settings.aws_access_key_id,
        aws_secret_access_key=settings.aws_secret_access_key,
    )


@app.get("/health")
def health():
    return jsonify(status="ok", version="0")


@app.get("/select/<name>/<id>")
def select(name, id):
    if not hasattr(connections, "own"):
        connections.own = psycopg2.connect(
            make_url(settings.database_url).set(drivername="postgresql").render_as_string(hide_password=False)
        )
        connections.own.autocommit = True
    with connections.own.cursor() as cursor:
        cursor.execute(SELECTS[name], (id,))
        cursor.fetchall()
    return jsonify(documents()[name])


@cache
def documents():
    """What the application answers, by the names of SELECTS."""
    return json.loads(Path(os.environ["BENCH_DOCUMENTS"]).read_text())
