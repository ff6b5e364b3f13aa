"""The HTTPS server that answers the API server's reviews."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Mapping
from typing import Any

import kopf
import orjson
from aiohttp import web

from wazzup_operator.admission import lookups
from wazzup_operator.observability import metrics
from wazzup_operator.resources.base import GROUP, VERSION

log = logging.getLogger(__name__)

MAX_BODY = 8 * 2**20
"""Bytes: fits two versions of an object of etcd's limit of 1.5 MiB, with room to spare."""

READ_TIMEOUT = 10.0
"""Maximum seconds for receiving a review; the API server sends it at once."""

ANSWER_TIMEOUT = 30.0
"""Maximum seconds for answering a review. Lookups time out much earlier, as does the API server,
so an answer that takes this long means that kopf hangs."""

DEFAULT_TIMEOUT, MAX_TIMEOUT = 3, 30
"""Seconds that the API server waits for a review: if it does not say, and at most."""

_REVIEWS = "admission.k8s.io/v1"

_OBJECTS = {"CREATE": {"object"}, "UPDATE": {"object", "oldObject"}, "DELETE": {"oldObject"}}
"""The objects in a review, by operation."""


class ReviewServer:
    """Passes reviews on to kopf; implements kopf's `WebhookServerProtocol`.

    `resources` maps each path (a handler's id) to the plural that it reviews. A review with another
    path or kind is refused, because kopf allows what no handler matches and failurePolicy Ignore
    allows after an HTTP error: a wrong webhook configuration would silently disable the rules.
    """

    def __init__(self, resources: Mapping[str, str]) -> None:
        self._resources = resources
        self._review: kopf.WebhookFn | None = None
        self.draining = False
        """Whether to close each connection after its next answer."""
        self._timed_out: float | None = None
        self._hangs = False

    async def __call__(self, fn: kopf.WebhookFn) -> AsyncIterator[kopf.WebhookClientConfig]:
        """Use kopf's function as long as kopf runs; end kopf if it has missed one of our kinds.

        kopf discovers kinds once, perhaps from an API server that lags behind the others, and
        cannot answer reviews of a kind that it has missed.
        """
        for path, plural in self._resources.items():
            try:
                await fn(_probe(plural), webhook="")
            except Exception as error:
                log.warning("kopf cannot answer reviews at /%s: %r; restarting it", path, error)
                return
        self._review = fn
        try:
            yield kopf.WebhookClientConfig()
            await asyncio.Event().wait()
        finally:
            self._review = None

    @property
    def ready(self) -> bool:
        """Whether kopf runs and can answer."""
        return self._review is not None

    def stuck(self) -> str | None:
        """Return the problem if kopf has stopped answering."""
        return "kopf has stopped answering reviews" if self._hangs else None

    def app(self) -> web.Application:
        """Return an app that routes every path here: a 404 would let objects in unchecked."""
        app = web.Application()
        app.router.add_post("/{path:.*}", self._answer)
        return app

    async def _answer(self, request: web.Request) -> web.Response:
        path = request.path.removeprefix("/")
        webhook = path if path in self._resources else "unknown"
        with (
            metrics.webhook_in_flight.labels(webhook).track_inprogress(),
            metrics.webhook_latency.labels(webhook).time(),
        ):
            response = await self._response(request)
        metrics.webhook_requests.labels(webhook, str(response.status)).inc()
        if self.draining:
            response.force_close()
        return response

    async def _response(self, request: web.Request) -> web.Response:
        limit = _lookup_limit(request.query.get("timeout", ""))
        lookups.deadline.set(asyncio.get_running_loop().time() + limit)
        try:
            async with asyncio.timeout(READ_TIMEOUT):
                data = await _read_body(request)
        except TimeoutError:
            return _failure(408, "Timed out while receiving the review.")
        except (ConnectionError, web.RequestPayloadError):
            return _failure(400, "The review is incomplete.")
        if data is None:
            return _failure(413, "The review is too large.")
        review = _load(data)
        if problem := _problem(review):
            return _failure(400, problem)
        if mistake := self._misrouted(request.path, review):
            return _success(_denial(review, mistake))
        if problem := _missing(review["request"]):
            return _failure(400, problem)
        if self._review is None:
            return _failure(503, "The handlers are not ready yet.")
        return await self._ask(self._review, review, request.path.removeprefix("/"))

    def _misrouted(self, path: str, review: Mapping[str, Any]) -> str | None:
        """Return the mistake in the webhook configuration that sent this review here, if any."""
        request = review["request"]
        plural = self._resources.get(path.removeprefix("/"))
        if plural is None:
            paths = " and ".join(f"/{each}" for each in self._resources)
            return _correct("clientConfig", f'The webhook has no path "{path}", only {paths}')
        wanted, named = f"{plural}.{VERSION}.{GROUP}", _resource(request)
        if named != wanted:
            fault = f"The webhook's path {path} is for {wanted}, not for {named}"
            return _correct("clientConfig and rules", fault)
        if review["apiVersion"] != _REVIEWS:
            return _correct("admissionReviewVersions", f"The webhook understands {_REVIEWS} only")
        operation = request.get("operation")
        if isinstance(operation, str) and operation not in _OBJECTS:
            return _correct("rules", f"The webhook does not review the operation {operation}")
        return None

    async def _ask(self, kopfs: kopf.WebhookFn, review: Any, webhook: str) -> web.Response:
        _drop_uids(review["request"])
        started = time.monotonic()
        try:
            async with asyncio.timeout(ANSWER_TIMEOUT):
                answer = await kopfs(review, webhook=webhook)
            self._timed_out, self._hangs = None, False
        except TimeoutError:
            # Reviews under way together may all time out in one pause of the machine.
            if self._timed_out is not None and started > self._timed_out:
                self._hangs = True
            self._timed_out = time.monotonic()
            log.error("A review timed out after %g s", ANSWER_TIMEOUT)
            return _failure(504, "The review timed out.")
        except Exception:
            log.exception("Cannot answer a review")
            return _failure(500, "The review failed; see the webhook's log.")
        refusal = answer["response"].get("status")
        if refusal and refusal["code"] == 500:
            return _failure(500, refusal["message"])  # not judged: the failurePolicy decides
        return _success(answer)


def _probe(plural: str) -> Any:
    """Return a review without a handler, which kopf allows if it knows the kind."""
    return {
        "apiVersion": _REVIEWS,
        "kind": "AdmissionReview",
        "request": {
            "uid": "probe",
            "resource": {"group": GROUP, "version": VERSION, "resource": plural},
            "operation": "CREATE",
            "userInfo": {},
            "object": {"metadata": {}},
        },
    }


def _lookup_limit(timeout: str) -> float:
    """Return in how many seconds lookups time out: two thirds of the review's timeout ("3s").

    The rest is for connecting and for the answer, so that the API server gets the reason.
    """
    seconds = timeout.removesuffix("s")
    valid = seconds.isascii() and seconds.isdigit() and len(seconds) <= 2
    return (min(int(seconds), MAX_TIMEOUT) if valid else DEFAULT_TIMEOUT) * 2 / 3


def _correct(field: str, fault: str) -> str:
    return f"{fault}; correct {field} in the webhook configuration."


def _success(answer: Mapping[str, Any]) -> web.Response:
    return web.Response(body=orjson.dumps(answer), content_type="application/json")


def _failure(status: int, sentence: str) -> web.Response:
    """Return an HTTP error, after which the API server applies the failurePolicy."""
    return web.Response(status=status, text=f"{sentence}\n")


def _denial(review: Mapping[str, Any], sentence: str) -> dict[str, Any]:
    return {
        "apiVersion": review["apiVersion"],
        "kind": review["kind"],
        "response": {
            "uid": review["request"]["uid"],
            "allowed": False,
            "status": {"code": 422, "message": sentence},
        },
    }


async def _read_body(request: web.Request) -> bytes | None:
    """Return the body, or None if it is too large.

    `request.read` keeps what it has read of a body that is too large, until garbage collection.
    """
    if (request.content_length or 0) > MAX_BODY:
        return None
    data = bytearray()
    async for chunk in request.content.iter_any():
        data += chunk
        if len(data) > MAX_BODY:
            return None
    return bytes(data)


def _load(data: bytes) -> Any:
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError:
        return None


def _problem(review: Any) -> str | None:
    """Return why a body is not a review of any kind."""
    if not isinstance(review, dict) or review.get("kind") != "AdmissionReview":
        return "This is not an AdmissionReview."
    version = review.get("apiVersion")
    if not isinstance(version, str) or not version.startswith("admission.k8s.io/"):
        return "This is not an AdmissionReview of admission.k8s.io."
    request = review.get("request")
    if not isinstance(request, dict) or not isinstance(request.get("uid"), str):
        return "The AdmissionReview has no request."
    if not isinstance(request.get("resource"), dict):
        return "The request's resource is missing."
    return None


def _resource(request: Mapping[str, Any]) -> str:
    """Return the resource in kubectl's notation: wazzupchannels.v1.wazzup.dev, pods.v1."""
    parts = (request["resource"].get(key) for key in ("resource", "version", "group"))
    return ".".join(str(part) for part in parts if part)


def _missing(request: Mapping[str, Any]) -> str | None:
    """Return which part of the request is missing or invalid."""
    if not isinstance(request.get("userInfo"), dict):
        return "The request's userInfo is missing."
    operation = request.get("operation")
    if not isinstance(operation, str):
        return "The request's operation is missing."
    for key in ("object", "oldObject"):
        value = request.get(key)
        if not ((value is None and key not in _OBJECTS[operation]) or _is_object(value)):
            return f"The request's {key} is missing or not a Kubernetes object."
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


def _drop_uids(request: dict[str, Any]) -> None:
    """Remove the objects' uids: kopf keeps every uid of an UPDATE in memory for ever."""
    for key in ("object", "oldObject"):
        if request.get(key):
            request[key]["metadata"].pop("uid", None)
