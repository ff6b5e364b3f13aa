"""The documented API under /v3: one route, GET /v3/channels.

Other documented routes (messages, webhooks, templates) answer 404.
"""

import asyncio
import random

from aiohttp import web

from wazzup_simulator.answers import (
    FORBIDDEN,
    INVALID_KEY,
    NO_SUCH_ROUTE,
    TOO_MANY_REQUESTS,
    Answer,
    json_answer,
)
from wazzup_simulator.faults import Fault, Faults
from wazzup_simulator.rate_limit import RateLimit
from wazzup_simulator.record import Record, Request
from wazzup_simulator.state import Account, Service

CHANNELS = ("GET", "/v3/channels")

SIDECAR_ROUTES = {
    CHANNELS,
    ("GET", "/v3/webhooks"),
    ("PATCH", "/v3/webhooks"),
    ("POST", "/v3/message"),
    ("GET", "/v3/templates/whatsapp"),
}
"""Routes open to a Sidecar integration's key ("Connection methods" in the API documentation)."""


class Api:
    """The routes under /v3."""

    def __init__(self, service: Service, faults: Faults, record: Record) -> None:
        self._service = service
        self._faults = faults
        self._record = record
        self._limit = RateLimit()

    def add_to(self, app: web.Application) -> None:
        """Add the routes to `app`."""
        app.router.add_route("*", "/v3{rest:(/.*)?}", self._handle)

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        key = _bearer(request)
        account = None if key is None else self._service.holder(key)
        entry = self._record.add(
            account.id if account else None, request.method, request.path_qs, key
        )
        refusal = self._refusal((request.method, request.path), key, account)
        fault = self._faults.take(entry.account, listing=refusal is None)
        entry.fault = fault.kind if fault else None
        return await self._deliver(request, entry, fault, refusal)

    def _refusal(
        self, route: tuple[str, str], key: str | None, account: Account | None
    ) -> Answer | None:
        """Return the error answer, or None if the request gets a listing."""
        if key is None or account is None:
            return INVALID_KEY
        if self._limit.exceeded(key):
            return TOO_MANY_REQUESTS
        if account.forbidden or (key in account.sidecar_keys and route not in SIDECAR_ROUTES):
            return FORBIDDEN
        return None if route == CHANNELS else NO_SUCH_ROUTE

    async def _deliver(
        self, request: web.Request, entry: Request, fault: Fault | None, refusal: Answer | None
    ) -> web.StreamResponse:
        kind = fault.kind if fault else None
        if kind == "refuse":
            return _close(request)
        if kind == "hang":
            await self._faults.hang()
        if fault and fault.delay:
            await asyncio.sleep(fault.delay)
        answer = refusal or self._listing(entry.account, fault)
        if fault and fault.on_answer:
            answer = fault.on_answer(answer)
        entry.status = answer.status
        if kind == "cut":
            return await _cut(request, answer)
        return web.Response(status=answer.status, body=answer.body or None, headers=answer.headers)

    def _listing(self, account: str | None, fault: Fault | None) -> Answer:
        """Return a bare array without pagination ("Working with channels"), in no order."""
        channels = list(self._service.account(account or "").channels.values())
        listed: object = [channel.row for channel in channels]
        if fault and fault.on_listing:
            listed = fault.on_listing(channels)
        if isinstance(listed, list):
            random.shuffle(listed)
        return json_answer(listed)


def _bearer(request: web.Request) -> str | None:
    scheme, _, key = request.headers.get("Authorization", "").partition(" ")
    return key if scheme == "Bearer" and key else None


def _close(request: web.Request) -> web.StreamResponse:
    if request.transport is not None:
        request.transport.close()
    return web.Response()


async def _cut(request: web.Request, answer: Answer) -> web.StreamResponse:
    response = web.StreamResponse(status=answer.status, headers=answer.headers)
    response.content_length = len(answer.body)
    await response.prepare(request)
    await response.write(answer.body[: len(answer.body) // 2])
    if request.transport is not None:
        request.transport.abort()
    return response
