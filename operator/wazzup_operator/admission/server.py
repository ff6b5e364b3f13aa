"""The HTTPS server that the API server sends its reviews to."""

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping
from typing import Any

import kopf
import orjson
from aiohttp import web

from wazzup_operator.resources.base import GROUP, VERSION

log = logging.getLogger(__name__)

MAX_BODY = 8 * 2**20
"""Bytes: two versions of an object of etcd's 1.5 MiB, as JSON, with room to spare."""

READ_PATIENCE = 10.0
"""Seconds that a review may take to arrive; the API server sends it at once."""

ANSWER_PATIENCE = 30.0
"""Seconds that an answer may take: what the handlers look up has a timeout of its own, a tenth of
this, and the API server has long given up."""

_OBJECTS = {"CREATE": {"object"}, "UPDATE": {"object", "oldObject"}, "DELETE": {"oldObject"}}
"""Which objects a review has, by operation."""


class ReviewServer:
    """Answers reviews through kopf, whose `WebhookServerProtocol` it is.

    `resources` says which plural each path (a handler's id) is for: kopf allows what no handler
    matches, so that a typo in a configuration would switch the rules off in silence.
    """

    def __init__(self, resources: Mapping[str, str]) -> None:
        self._resources = resources
        self._review: kopf.WebhookFn | None = None
        self.draining = False
        """Whether connections are to be closed after their next answer."""
        self._hangs = False

    async def __call__(self, fn: kopf.WebhookFn) -> AsyncIterator[kopf.WebhookClientConfig]:
        """Take kopf's function for as long as kopf runs."""
        self._review = fn
        try:
            yield kopf.WebhookClientConfig()
            await asyncio.Event().wait()
        finally:
            self._review = None

    @property
    def ready(self) -> bool:
        """Whether kopf is there to answer."""
        return self._review is not None

    def stuck(self) -> str | None:
        """Return in a sentence that the last review was not answered."""
        return "kopf does not answer reviews any more" if self._hangs else None

    def app(self) -> web.Application:
        """Return the routes: one for each handler, nothing else."""
        app = web.Application()
        for webhook in self._resources:
            app.router.add_post(f"/{webhook}", self._answer)
        return app

    async def _answer(self, request: web.Request) -> web.Response:
        webhook = request.path.removeprefix("/")
        try:
            async with asyncio.timeout(READ_PATIENCE):
                data = await _read(request)
        except TimeoutError:
            return web.Response(status=408, text="The review did not arrive in time.\n")
        except (ConnectionError, web.RequestPayloadError):
            return web.Response(status=400, text="The review broke off.\n")
        if data is None:
            return web.Response(status=413, text="This is larger than a review can be.\n")
        review = _parsed(data)
        problem = _problem(review, self._resources[webhook])
        if problem:
            return web.Response(status=400, text=f"{problem}\n")
        if self._review is None:
            return web.Response(status=503, text="The handlers are not ready yet.\n")
        _forget_uids(review["request"])
        try:
            async with asyncio.timeout(ANSWER_PATIENCE):
                answer = await self._review(review, webhook=webhook)
            self._hangs = False
        except TimeoutError:
            self._hangs = True
            log.error("a review was not answered within %g s", ANSWER_PATIENCE)
            return web.Response(status=504, text="The review was not answered in time.\n")
        except Exception:
            log.exception("a review could not be answered")
            return web.Response(status=500, text="The review could not be answered.\n")
        refusal = answer["response"].get("status")
        if refusal and refusal["code"] == 500:
            log.error("a handler failed: %s", refusal["message"])
        response = web.Response(body=orjson.dumps(answer), content_type="application/json")
        if self.draining:
            response.force_close()
        return response


async def _read(request: web.Request) -> bytes | None:
    """Return the body, or None if it is too large.

    `request.read` would read that much of it first, and keep it until the garbage collector comes.
    """
    if (request.content_length or 0) > MAX_BODY:
        return None
    data = bytearray()
    async for chunk in request.content.iter_any():
        data += chunk
        if len(data) > MAX_BODY:
            return None
    return bytes(data)


def _parsed(data: bytes) -> Any:
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError:
        return None


def _problem(review: Any, plural: str) -> str | None:
    """Return what is wrong with a body that should be a review of this kind."""
    if not isinstance(review, dict) or review.get("kind") != "AdmissionReview":
        return "This is not an AdmissionReview."
    if review.get("apiVersion") != "admission.k8s.io/v1":
        return "Only admission.k8s.io/v1 is understood."
    request = review.get("request")
    if not isinstance(request, dict) or not isinstance(request.get("uid"), str):
        return "The AdmissionReview has no request."
    wanted = {"group": GROUP, "version": VERSION, "resource": plural}
    if request.get("resource") != wanted:
        return f"This path is for {plural}; check the paths in the webhook configuration."
    return _missing(request)


def _missing(request: Mapping[str, Any]) -> str | None:
    """Return what the request lacks: kopf allows what it finds no handler for."""
    if not isinstance(request.get("userInfo"), dict):
        return "The request's userInfo is missing."
    operation = request.get("operation")
    if not isinstance(operation, str) or operation not in _OBJECTS:
        return "The request's operation is not one that is reviewed."
    for key in ("object", "oldObject"):
        value = request.get(key)
        if not ((value is None and key not in _OBJECTS[operation]) or _is_object(value)):
            return f"The request's {key} is missing or no Kubernetes object."
    return None


def _is_object(value: Any) -> bool:
    if not isinstance(value, dict) or not isinstance(value.get("spec"), dict):
        return False
    metadata = value.get("metadata")
    return (
        isinstance(metadata, dict)
        and isinstance(metadata.get("name"), str)
        and isinstance(metadata.get("namespace"), str)
        and isinstance(metadata.get("annotations") or {}, dict)
    )


def _forget_uids(request: dict[str, Any]) -> None:
    """Take the objects' uids away: kopf remembers every uid of an UPDATE for ever."""
    for key in ("object", "oldObject"):
        if request.get(key):
            request[key]["metadata"].pop("uid", None)
