"""The floor: bare Flask views with one statement each, on the same driver, pool and gunicorn.

A transaction stands around each statement, as it does unless one asks for less; no connection is asked
whether it still lives.
"""

from functools import cache

import boto3
from flask import Flask, jsonify, request
from sqlalchemy import create_engine, text

from app.config import Settings

app = Flask(__name__)
settings = Settings.from_environ()
engine = create_engine(settings.database_url, pool_size=5, max_overflow=0)

INSERT = text("INSERT INTO bench_bare (payload) VALUES (CAST(:payload AS jsonb)) RETURNING id")
SELECTS = {
    "prompt": text("SELECT * FROM prompts WHERE id = :id"),
    "prompts": text("SELECT * FROM prompts WHERE id <> :id ORDER BY id"),
    "scores": text("SELECT * FROM miner_scores WHERE cycle_id = :id ORDER BY total_score DESC"),
    "weights": text("SELECT * FROM computed_weights WHERE cycle_id = :id ORDER BY miner_uid"),
}


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


@app.get("/select/<name>/<id>")
def select(name, id):
    with engine.connect() as connection:
        rows = connection.execute(SELECTS[name], {"id": id}).mappings().all()
    return jsonify([dict(row) for row in rows])
