"""Endpoints of cycles."""

from flask import Blueprint

blueprint = Blueprint("cycles", __name__)
