"""Answers the API server's reviews with kopf."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Mapping
from typing import Any
from urllib.parse import parse_qs

import kopf
import orjson

from wazzup_operator.admission import lookups
from wazzup_operator.admission.requests import Answer, Buffer, Request
from wazzup_operator.admission.reviews import (
    API_VERSION,
    KIND,
    OBJECTS,
    Invalid,
    Review,
    read,
    uid_in,
)
from wazzup_operator.observability import metrics
from wazzup_operator.resources.base import GROUP, VERSION

log = logging.getLogger(__name__)

ANSWER_TIMEOUT = 30.0
"""Maximum seconds for answering a review. Lookups time out much earlier, as does the API server,
so an answer that takes this long means that kopf hangs."""

DEFAULT_TIMEOUT, MAX_TIMEOUT = 3, 30
"""Seconds that the API server waits for a review: if it does not say, and at most."""

MAX_REVIEWS = 100
"""Reviews in progress; two replicas together take the 200 writes that an API server handles at
once by default."""

_LARGE = 256 * 2**10
"""Bytes of a body that takes noticeable time to decode."""

_TOO_LARGE = "The object is too large to be reviewed; remove data from it."
_TOO_DEEP = "The object is nested too deeply to be reviewed; remove data from it."


class ReviewServer:
    """Passes reviews on to kopf; implements kopf's `WebhookServerProtocol`.

    `resources` maps each path (a handler's id) to the plural that it reviews. A review with another
    path or kind is refused, because kopf allows what no handler matches and failurePolicy Ignore
    allows after an HTTP error: a wrong webhook configuration would silently disable the rules.
    """

    def __init__(self, resources: Mapping[str, str]) -> None:
        self._resources = resources
        self._review: kopf.WebhookFn | None = None
        self._in_progress = 0
        self._decoding = asyncio.Lock()
        self._timed_out: float | None = None
        self._hangs = False

    async def __call__(self, fn: kopf.WebhookFn) -> AsyncIterator[kopf.WebhookClientConfig]:
        """Use kopf's function as long as kopf runs; end kopf if it has missed a kind.

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

    async def answer(self, request: Request) -> Answer:
        """Answer a request on any path: a 404 would let objects in unchecked."""
        path, _, query = request.target.partition("?")
        webhook = path[1:] if path[1:] in self._resources else "unknown"
        with (
            metrics.webhook_in_flight.labels(webhook).track_inprogress(),
            metrics.webhook_latency.labels(webhook).time(),
        ):
            answer = await self._bounded(request, path, query)
        metrics.webhook_requests.labels(webhook, str(answer.status)).inc()
        return answer

    async def _bounded(self, request: Request, path: str, query: str) -> Answer:
        if request.method != "POST":
            return Answer.failure(405, "Send a review with POST.")
        if request.fault:
            too_large = request.fault.status == 413
            return (too_large and _refusal(request.body, _TOO_LARGE)) or request.fault
        if self._in_progress >= MAX_REVIEWS:
            return Answer.failure(503, "Too many reviews are in progress.")
        self._in_progress += 1
        try:
            limit = _lookup_limit(parse_qs(query).get("timeout", [""])[0])
            lookups.deadline.set(request.started + limit)
            return await self._answer(request.body, path)
        finally:
            self._in_progress -= 1

    async def _answer(self, body: Buffer, path: str) -> Answer:
        try:
            review = await self._read(body)
        except Invalid as error:
            return Answer.failure(400, str(error))
        except RecursionError:
            return _refusal(body, _TOO_DEEP) or Answer.failure(400, _TOO_DEEP)
        if mistake := self._misrouted(path, review):
            return _success(_denial(review.request.uid, mistake, review.api_version))
        if problem := review.problem():
            return Answer.failure(400, problem)
        if self._review is None:
            return Answer.failure(503, "The handlers are not ready yet.")
        return await self._ask(self._review, review.for_kopf(), path[1:])

    async def _read(self, body: Buffer) -> Review:
        """Decode a review; large ones one at a time, each followed by an equal pause."""
        if len(body) < _LARGE:
            return read(body)
        async with self._decoding:
            started = time.monotonic()
            try:
                return read(body)
            finally:
                await asyncio.sleep(time.monotonic() - started)

    def _misrouted(self, path: str, review: Review) -> str | None:
        """Return the mistake in the webhook configuration that sent this review here, if any."""
        request = review.request
        plural = self._resources.get(path[1:])
        if plural is None:
            paths = " and ".join(f"/{each}" for each in self._resources)
            return _correct("clientConfig", f'The webhook has no path "{path}", only {paths}')
        wanted, named = f"{plural}.{VERSION}.{GROUP}", str(request.resource)
        if named != wanted:
            fault = f"The webhook's path {path} is for {wanted}, not for {named}"
            return _correct("clientConfig and rules", fault)
        if review.api_version != API_VERSION:
            fault = f"The webhook understands {API_VERSION} only"
            return _correct("admissionReviewVersions", fault)
        if request.operation not in {None, *OBJECTS}:
            fault = f"The webhook does not review the operation {request.operation}"
            return _correct("rules", fault)
        return None

    async def _ask(self, review_with_kopf: kopf.WebhookFn, review: Any, webhook: str) -> Answer:
        started = time.monotonic()
        try:
            async with asyncio.timeout(ANSWER_TIMEOUT):
                answer = await review_with_kopf(review, webhook=webhook)
            self._timed_out, self._hangs = None, False
        except TimeoutError:
            # Reviews in progress may all time out together when the machine pauses.
            if self._timed_out is not None and started > self._timed_out:
                self._hangs = True
            self._timed_out = time.monotonic()
            log.error("A review of a %s timed out after %g s", webhook, ANSWER_TIMEOUT)
            return Answer.failure(504, "The review timed out.")
        except Exception:
            log.exception("Cannot answer a review of a %s", webhook)
            return Answer.failure(500, "The review failed; see the webhook's log.")
        refusal = answer["response"].get("status")
        if refusal and refusal["code"] == 500:
            # No decision: the failurePolicy decides.
            return Answer.failure(500, refusal["message"])
        return _success(answer)


def _probe(plural: str) -> Any:
    """Return a review without a handler, which kopf allows if it knows the kind."""
    return {
        "apiVersion": API_VERSION,
        "kind": KIND,
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


def _success(answer: Mapping[str, Any]) -> Answer:
    return Answer(200, orjson.dumps(answer))


def _refusal(data: Buffer, sentence: str) -> Answer | None:
    """Refuse a review that cannot be decoded, if its uid can be read."""
    uid = uid_in(data)
    return _success(_denial(uid, sentence, API_VERSION)) if uid else None


def _denial(uid: str, sentence: str, api_version: str) -> dict[str, Any]:
    return {
        "apiVersion": api_version,
        "kind": KIND,
        "response": {
            "uid": uid,
            "allowed": False,
            "status": {"code": 422, "message": sentence},
        },
    }
