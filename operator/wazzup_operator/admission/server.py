"""The HTTPS server that the API server sends its reviews to."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Mapping
from typing import Any

import kopf
import orjson
from aiohttp import web

from wazzup_operator.admission import evidence
from wazzup_operator.observability import metrics
from wazzup_operator.resources.base import GROUP, VERSION

log = logging.getLogger(__name__)

MAX_BODY = 8 * 2**20
"""Bytes: two versions of an object of etcd's 1.5 MiB, as JSON, with room to spare."""

READ_TIMEOUT = 10.0
"""Seconds that a review may take to arrive; the API server sends it at once."""

ANSWER_TIMEOUT = 30.0
"""Seconds that an answer may take: what the handlers look up has a timeout of its own, far below
this, and the API server has long given up."""

_REVIEWS = "admission.k8s.io/v1"

_OBJECTS = {"CREATE": {"object"}, "UPDATE": {"object", "oldObject"}, "DELETE": {"oldObject"}}
"""Which objects a review has, by operation."""


class ReviewServer:
    """Answers reviews through kopf, whose `WebhookServerProtocol` it is.

    `resources` says which plural each path (a handler's id) is for. Reviews that come by another
    path or are of another kind are refused: kopf allows what no handler matches, and an HTTP error
    leaves it to a failurePolicy of Ignore, so that a mistake in a configuration would switch the
    rules off in silence.
    """

    def __init__(self, resources: Mapping[str, str]) -> None:
        self._resources = resources
        self._review: kopf.WebhookFn | None = None
        self.draining = False
        """Whether connections are to be closed after their next answer."""
        self._timed_out: float | None = None
        self._hangs = False

    async def __call__(self, fn: kopf.WebhookFn) -> AsyncIterator[kopf.WebhookClientConfig]:
        """Take kopf's function for as long as kopf runs; end kopf if it could answer nothing.

        It looks once which kinds there are, perhaps at an API server that lags behind the others,
        and has no answer for those that it missed.
        """
        for path, plural in self._resources.items():
            try:
                await fn(_trial(plural), webhook="")
            except Exception as error:
                log.warning("kopf would not answer reviews at /%s: %r", path, error)
                return
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
        """Return in a sentence that no review is answered any more."""
        return "kopf does not answer reviews any more" if self._hangs else None

    def app(self) -> web.Application:
        """Return the one route: every path, as HTTP 404 would let in what should be refused."""
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
        try:
            async with asyncio.timeout(READ_TIMEOUT):
                data = await _read_body(request)
        except TimeoutError:
            return _failure(408, "The review did not arrive in time.")
        except (ConnectionError, web.RequestPayloadError):
            return _failure(400, "The review broke off.")
        if data is None:
            return _failure(413, "This is larger than a review can be.")
        review = _load(data)
        if problem := _problem(review):
            return _failure(400, problem)
        if mistake := self._mistake(request.path, review):
            return _success(_denial(review, mistake))
        if problem := _missing(review["request"]):
            return _failure(400, problem)
        if self._review is None:
            return _failure(503, "The handlers are not ready yet.")
        evidence.lookup_timeout.set(_lookup_timeout(request.query.get("timeout", "")))
        return await self._ask(self._review, review, request.path.removeprefix("/"))

    def _mistake(self, path: str, review: Mapping[str, Any]) -> str | None:
        """Return what is wrong in the webhook configuration that has led a review here."""
        request = review["request"]
        plural = self._resources.get(path.removeprefix("/"))
        if plural is None:
            paths = " and ".join(f"/{each}" for each in self._resources)
            return _correct("clientConfig", f'The webhook has no path "{path}", only {paths}')
        wanted, named = f"{plural}.{VERSION}.{GROUP}", _resource(request)
        if named != wanted:
            fault = f"The webhook's path {path} is for {wanted} and not for {named}"
            return _correct("clientConfig and rules", fault)
        if review["apiVersion"] != _REVIEWS:
            return _correct("admissionReviewVersions", f"The webhook understands {_REVIEWS} only")
        operation = request.get("operation")
        if isinstance(operation, str) and operation not in _OBJECTS:
            return _correct("rules", f"The webhook does not review the operation {operation}")
        return None

    async def _ask(self, kopfs: kopf.WebhookFn, review: Any, webhook: str) -> web.Response:
        _forget_uids(review["request"])
        started = time.monotonic()
        try:
            async with asyncio.timeout(ANSWER_TIMEOUT):
                answer = await kopfs(review, webhook=webhook)
            self._timed_out, self._hangs = None, False
        except TimeoutError:
            # One pause of the machine is the end of all the reviews that were under way.
            if self._timed_out is not None and started > self._timed_out:
                self._hangs = True
            self._timed_out = time.monotonic()
            log.error("a review was not answered within %g s", ANSWER_TIMEOUT)
            return _failure(504, "The review was not answered in time.")
        except Exception:
            log.exception("a review could not be answered")
            return _failure(500, "The review could not be answered.")
        refusal = answer["response"].get("status")
        if refusal and refusal["code"] == 500:
            # A handler's surprise is no refusal: the failurePolicy is for that.
            log.error("a handler failed: %r", refusal["message"])
            return _failure(500, "A handler failed; the webhook's log says how.")
        return _success(answer)


def _trial(plural: str) -> Any:
    """Return a review that no handler is for, so that kopf allows it if it knows the kind."""
    return {
        "apiVersion": _REVIEWS,
        "kind": "AdmissionReview",
        "request": {
            "uid": "trial",
            "resource": {"group": GROUP, "version": VERSION, "resource": plural},
            "operation": "CREATE",
            "userInfo": {},
            "object": {"metadata": {}},
        },
    }


def _lookup_timeout(timeout: str) -> float:
    """Return the seconds that look-ups may take where the API server waits for so long ("3s")."""
    seconds = timeout.removesuffix("s")
    if not (seconds.isascii() and seconds.isdigit() and len(seconds) < 5):
        return evidence.LOOKUP_TIMEOUT
    return min(evidence.LOOKUP_TIMEOUT, int(seconds) * 2 / 3)


def _correct(field: str, fault: str) -> str:
    return f"{fault}; correct {field} in the webhook configuration."


def _success(answer: Mapping[str, Any]) -> web.Response:
    return web.Response(body=orjson.dumps(answer), content_type="application/json")


def _failure(status: int, sentence: str) -> web.Response:
    """Return what is no answer to a review: the API server goes by the failurePolicy then."""
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


def _load(data: bytes) -> Any:
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError:
        return None


def _problem(review: Any) -> str | None:
    """Return why a body is no review that could be answered, of whatever kind."""
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
    """Return the resource as kubectl takes it, such as wazzupchannels.v1.wazzup.dev or pods.v1."""
    parts = (request["resource"].get(key) for key in ("resource", "version", "group"))
    return ".".join(str(part) for part in parts if part)


def _missing(request: Mapping[str, Any]) -> str | None:
    """Return what the request lacks that an API server always sends."""
    if not isinstance(request.get("userInfo"), dict):
        return "The request's userInfo is missing."
    operation = request.get("operation")
    if not isinstance(operation, str):
        return "The request's operation is missing."
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
