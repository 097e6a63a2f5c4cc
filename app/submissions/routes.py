"""Endpoints of submissions."""

from flask import Blueprint

blueprint = Blueprint("submissions", __name__)
