"""Endpoints of uploads, whole or in parts."""

from flask import Blueprint, current_app, g
from spectree import Response as Answers

from app.uploads import service
from app.uploads.models import (
    MultipartOut,
    MultipartStateOut,
    NamedMultipart,
    NewMultipart,
    NewUpload,
    PartsOut,
    UploadedParts,
    UploadOut,
    WantedParts,
)
from app.web.api import Problem, spec
from app.web.auth import require_miner

blueprint = Blueprint("uploads", __name__)


@blueprint.post("/v1/upload/presign")
@require_miner
@spec.validate(resp=Answers(HTTP_200=UploadOut, HTTP_429=Problem), tags=["submissions"])
def presign(json: NewUpload) -> UploadOut:
    """Return a presigned address, to which one video can be uploaded."""
    extensions = current_app.extensions
    return service.presign(json, g.miner_hotkey, extensions["settings"], extensions["storage"])


@blueprint.post("/v1/upload/multipart")
@require_miner
@spec.validate(resp=Answers(HTTP_200=MultipartOut, HTTP_429=Problem), tags=["submissions"])
def start_multipart(json: NewMultipart) -> MultipartOut:
    """Begin an upload in parts, for large files and bad lines: what has arrived is not sent again.

    Ask for the addresses of its parts, PUT each part, keep the ETags, and complete the upload.
    """
    extensions = current_app.extensions
    return service.start_multipart(json, g.miner_hotkey, extensions["settings"], extensions["storage"])


@blueprint.post("/v1/upload/multipart/parts")
@require_miner
@spec.validate(resp=Answers(HTTP_200=PartsOut, HTTP_404=Problem, HTTP_409=Problem), tags=["submissions"])
def sign_parts(json: WantedParts) -> PartsOut:
    """Return presigned addresses of parts, at most 100 at a time. Ask again when they have expired."""
    extensions = current_app.extensions
    return service.sign_parts(json, g.miner_hotkey, extensions["settings"], extensions["storage"])


@blueprint.post("/v1/upload/multipart/complete")
@require_miner
@spec.validate(
    resp=Answers(HTTP_200=MultipartStateOut, HTTP_404=Problem, HTTP_409=Problem), tags=["submissions"]
)
def complete_multipart(json: UploadedParts) -> MultipartStateOut:
    """Make one video of all parts, which can then be submitted. The same request again changes nothing."""
    return service.complete_multipart(json, g.miner_hotkey, current_app.extensions["storage"])


@blueprint.post("/v1/upload/multipart/abort")
@require_miner
@spec.validate(
    resp=Answers(HTTP_200=MultipartStateOut, HTTP_404=Problem, HTTP_409=Problem), tags=["submissions"]
)
def abort_multipart(json: NamedMultipart) -> MultipartStateOut:
    """Give up an upload in parts. The same request again changes nothing."""
    return service.abort_multipart(json, g.miner_hotkey, current_app.extensions["storage"])
