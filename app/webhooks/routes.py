"""Endpoints of webhooks: the same for a miner, who signs and sees his own, and for an admin, who sees all."""

from collections.abc import Callable, Sequence
from typing import Any
from urllib.parse import urlencode
from uuid import UUID

from flask import Blueprint, current_app, g, jsonify
from flask import Response as FlaskResponse
from pydantic import BaseModel
from spectree import Response as Answers

from app.clients.strangers import Strangers
from app.config import Settings
from app.errors import Unauthorized
from app.web.api import Problem, spec
from app.web.auth import require_admin, require_miner
from app.webhooks import models, queries, service

# of one delivery that are shown
LATEST_ATTEMPTS = 50


def _miners_scope() -> str:
    if g.miner_hotkey is None:
        raise Unauthorized(
            "Sign the request, in development too: a webhook belongs to a hotkey. "
            "/v1/admin/webhooks needs no hotkey.",
            "Btauth",
        )
    return g.miner_hotkey


def _show(endpoint: models.Endpoint) -> models.EndpointOut:
    return models.EndpointOut.model_validate(endpoint, from_attributes=True)


def _show_with_secret(endpoint: models.Endpoint, secret: str) -> models.EndpointWithSecretOut:
    return models.EndpointWithSecretOut(**vars(endpoint), secret=secret)


def _page(rows: Sequence[BaseModel], target: str, next_page: dict[str, Any] | None) -> FlaskResponse:
    response = jsonify([row.model_dump(mode="json") for row in rows])
    if next_page is not None:
        response.headers["Link"] = f'<{target}?{urlencode(next_page)}>; rel="next"'
    return response


def _build(name: str, prefix: str, tag: str, require: Callable, scope: Callable[[], str | None]) -> Blueprint:
    """The endpoints under `prefix` for the role of `require`; `scope` gives whose webhooks they are about."""
    blueprint = Blueprint(name, __name__, url_prefix=prefix)

    @blueprint.post("")
    @require
    @spec.validate(resp=Answers(HTTP_201=models.EndpointWithSecretOut, HTTP_409=Problem), tags=[tag])
    def register_webhook(json: models.NewEndpoint) -> tuple[models.EndpointWithSecretOut, int]:
        """Register an address that events are sent to. The answer has the secret, this once."""
        settings: Settings = current_app.extensions["settings"]
        strangers = Strangers(settings.webhook_allow_private)
        made = service.register(scope(), json.url, json.events, settings, strangers)
        return _show_with_secret(*made), 201

    @blueprint.get("")
    @require
    @spec.validate(resp=Answers(HTTP_200=list[models.EndpointOut]), tags=[tag])
    def list_webhooks(query: models.EndpointQuery) -> FlaskResponse:
        """List webhooks, the oldest first. The header `Link` names the next page."""
        found = queries.list_endpoints(scope(), query.after, query.limit + 1)
        page = found[: query.limit]
        more = len(found) > len(page)
        return _page(
            [_show(each) for each in page],
            prefix,
            {"after": page[-1].id, "limit": query.limit} if more else None,
        )

    @blueprint.get("/<uuid:webhook>")
    @require
    @spec.validate(resp=Answers(HTTP_200=models.EndpointOut, HTTP_404=Problem), tags=[tag])
    def get_webhook(webhook: UUID) -> models.EndpointOut:
        """Return one webhook."""
        return _show(service.get_endpoint(scope(), webhook))

    @blueprint.patch("/<uuid:webhook>")
    @require
    @spec.validate(resp=Answers(HTTP_200=models.EndpointOut, HTTP_404=Problem), tags=[tag])
    def change_webhook(webhook: UUID, json: models.EndpointChange) -> models.EndpointOut:
        """Choose other events, or enable or disable a webhook."""
        return _show(service.change(scope(), webhook, json.events, json.is_enabled))

    @blueprint.delete("/<uuid:webhook>")
    @require
    @spec.validate(resp=Answers(HTTP_200=models.EndpointOut, HTTP_404=Problem), tags=[tag])
    def delete_webhook(webhook: UUID) -> models.EndpointOut:
        """Delete a webhook with all its deliveries. Returns what it was."""
        return _show(service.remove(scope(), webhook))

    @blueprint.post("/<uuid:webhook>/secret")
    @require
    @spec.validate(resp=Answers(HTTP_200=models.EndpointWithSecretOut, HTTP_404=Problem), tags=[tag])
    def rotate_webhook_secret(webhook: UUID, json: models.SecretIn) -> models.EndpointWithSecretOut:
        """Make a new secret. For `overlap_hours` the old one signs too."""
        return _show_with_secret(*service.rotate(scope(), webhook, json.overlap_hours))

    @blueprint.get("/<uuid:webhook>/deliveries")
    @require
    @spec.validate(resp=Answers(HTTP_200=list[models.DeliveryOut], HTTP_404=Problem), tags=[tag])
    def list_webhook_deliveries(webhook: UUID, query: models.DeliveryQuery) -> FlaskResponse:
        """List the deliveries of a webhook, the latest first. The header `Link` names the next page."""
        endpoint = service.get_endpoint(scope(), webhook)
        found = queries.list_deliveries(endpoint.id, query.state, query.before, query.limit + 1)
        page = [models.DeliveryOut(**vars(each)) for each in found[: query.limit]]
        wanted = query.model_dump(mode="json", exclude_none=True)
        more = len(found) > len(page)
        return _page(
            page,
            f"{prefix}/{webhook}/deliveries",
            wanted | {"before": page[-1].uuid} if more else None,
        )

    @blueprint.get("/<uuid:webhook>/deliveries/<uuid:delivery>")
    @require
    @spec.validate(resp=Answers(HTTP_200=models.DeliveryWithAttemptsOut, HTTP_404=Problem), tags=[tag])
    def get_webhook_delivery(webhook: UUID, delivery: UUID) -> models.DeliveryWithAttemptsOut:
        """Return one delivery with its latest attempts."""
        found = service.get_delivery(service.get_endpoint(scope(), webhook), delivery)
        attempts = queries.list_attempts(delivery, LATEST_ATTEMPTS)
        return models.DeliveryWithAttemptsOut(
            **vars(found), log=[models.AttemptOut(**vars(each)) for each in attempts]
        )

    @blueprint.post("/<uuid:webhook>/replay")
    @require
    @spec.validate(resp=Answers(HTTP_200=models.ReplayOut, HTTP_404=Problem, HTTP_409=Problem), tags=[tag])
    def replay_webhook(webhook: UUID, json: models.ReplayIn) -> models.ReplayOut:
        """Send ended deliveries again. Receivers know them by their id."""
        return models.ReplayOut(replayed=service.replay(scope(), webhook, json))

    return blueprint


blueprints = (
    _build("webhooks", "/v1/webhooks", "webhooks", require_miner, _miners_scope),
    _build("admin_webhooks", "/v1/admin/webhooks", "admin", require_admin, lambda: None),
)
