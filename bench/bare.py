"""The floor: bare Flask views with one statement each, on the same driver, pool and gunicorn."""

from flask import Flask, jsonify, request
from sqlalchemy import create_engine, text

from app.config import Settings

app = Flask(__name__)
engine = create_engine(Settings.from_environ().database_url, pool_size=5, max_overflow=0)

INSERT = text("INSERT INTO bench_bare (payload) VALUES (CAST(:payload AS jsonb)) RETURNING id")
SELECT = text("SELECT id, category, task, scenario, weight FROM prompts WHERE id = :id")


@app.post("/insert")
def insert():
    with engine.begin() as connection:
        id = connection.execute(INSERT, {"payload": request.get_data(as_text=True)}).scalar_one()
    return jsonify(id=id), 201


@app.get("/select/<id>")
def select(id):
    with engine.connect() as connection:
        row = connection.execute(SELECT, {"id": id}).mappings().one()
    return jsonify(dict(row))
