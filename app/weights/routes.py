"""Endpoints of weights."""

from flask import Blueprint

blueprint = Blueprint("weights", __name__)
