"""Endpoints of evaluation."""

from flask import Blueprint

blueprint = Blueprint("evaluation", __name__)
