"""The webhook's server without TLS and kopf: which requests it passes on, and its answers."""

import asyncio
import copy
import io
import json
import logging
from contextlib import asynccontextmanager

import pytest

from tests.unit.listening import listening
from wazzup_operator.admission import requests as requests_module
from wazzup_operator.admission import server as server_module
from wazzup_operator.admission.handlers import ACCOUNT, CHANNEL, PATHS
from wazzup_operator.admission.lookups import deadline
from wazzup_operator.admission.requests import MAX_BODY
from wazzup_operator.admission.server import ReviewServer
from wazzup_operator.observability.metrics import registry

RESOURCES = {"channel": "wazzupchannels", "account": "wazzupaccounts"}
RESOURCE = {"group": "wazzup.dev", "version": "v1", "resource": "wazzupchannels"}


def stored(**spec):
    return {
        "apiVersion": "wazzup.dev/v1",
        "kind": "WazzupChannel",
        "metadata": {"name": "support", "namespace": "shop", "uid": "uid-1"},
        "spec": {"phoneNumber": "+79865784457", **spec},
    }


def review(operation="UPDATE", **request):
    return {
        "apiVersion": "admission.k8s.io/v1",
        "kind": "AdmissionReview",
        "request": {
            "uid": "review-1",
            "operation": operation,
            "resource": dict(RESOURCE),
            "userInfo": {"username": "somebody"},
            "object": stored(),
            "oldObject": stored(active=False) if operation == "UPDATE" else None,
            **request,
        },
    }


class Kopf:
    """Stands in for kopf: records reviews and allows everything."""

    def __init__(self):
        self.reviews = []
        self.error = None
        self.status = {}
        self.unknown = None
        """A plural that it has not discovered."""

    async def __call__(self, request, *, webhook):
        if request["request"]["resource"]["resource"] == self.unknown:
            raise LookupError(f"{self.unknown} has no handlers")
        if webhook == "":  # the server's probe
            return {"response": {"allowed": True}}
        self.deadline = deadline.get()
        self.reviews.append((webhook, copy.deepcopy(request)))
        if self.error:
            raise self.error
        response = {"uid": request["request"]["uid"], "allowed": not self.status, **self.status}
        return {"apiVersion": request["apiVersion"], "kind": request["kind"], "response": response}


@asynccontextmanager
async def served(server, kopf=None):
    """Serve, with this kopf running if given."""
    async with listening(server.answer) as client:
        if kopf is None:
            yield client
            return
        configurations = server(kopf)
        await anext(configurations)
        try:
            yield client
        finally:
            await configurations.aclose()


@pytest.fixture
def kopf():
    return Kopf()


@pytest.fixture
async def client(kopf):
    async with served(ReviewServer(RESOURCES), kopf) as client:
        yield client


async def test_a_review_is_passed_on_with_its_path_and_answered(client, kopf):
    answer = await client.post("/channel", json=review())
    assert answer.status == 200
    assert answer.content_type == "application/json"
    assert await answer.json() == {
        "apiVersion": "admission.k8s.io/v1",
        "kind": "AdmissionReview",
        "response": {"uid": "review-1", "allowed": True},
    }
    assert [webhook for webhook, _ in kopf.reviews] == ["channel"]


async def test_kopf_never_sees_an_object_s_uid(client, kopf):
    for operation in ("CREATE", "UPDATE"):
        assert (await client.post("/channel", json=review(operation))).status == 200
    for _, body in kopf.reviews:
        request = body["request"]
        assert request["uid"] == "review-1"
        for body in filter(None, (request["object"], request["oldObject"])):
            assert "uid" not in body["metadata"]


async def test_an_object_without_a_uid_is_reviewed(client):
    body = review("CREATE")
    del body["request"]["object"]["metadata"]["uid"]
    assert (await client.post("/channel", json=body)).status == 200


async def refusal(answer, version="v1"):
    """Check that the answer refuses the object; return its message."""
    assert answer.status == 200
    body = await answer.json()
    assert (body["apiVersion"], body["kind"]) == (f"admission.k8s.io/{version}", "AdmissionReview")
    response = body["response"]
    assert (response["uid"], response["allowed"]) == ("review-1", False)
    assert response["status"]["code"] == 422
    return response["status"]["message"]


@pytest.mark.parametrize(
    ("path", "named"),
    [
        ("/", "/"),
        ("/channels", "/channels"),
        ("/channel/", "/channel/"),
        ("/channel/x", "/channel/x"),
        ("/CHANNEL", "/CHANNEL"),
        ("/healthz", "/healthz"),
        ("/x/../channels", "/channels"),
        ("/hannel?timeout=3s", "/hannel"),
    ],
)
async def test_a_path_without_a_handler_is_refused(client, kopf, path, named):
    assert await refusal(await client.post(path, json=review())) == (
        f'The webhook has no path "{named}", only /channel and /account; correct'
        " clientConfig in the webhook configuration."
    )
    assert kopf.reviews == []


async def test_a_path_that_is_in_no_url_is_refused(client):
    data = json.dumps(review()).encode()
    head = f"POST //[/channel HTTP/1.1\r\nHost: x\r\nContent-Length: {len(data)}\r\n\r\n"
    reader, _ = await client.connect(head.encode() + data)
    assert (await reader.readline()).startswith(b"HTTP/1.1 200 ")
    await reader.readuntil(b"\r\n\r\n")
    assert b'has no path \\"//[/channel\\"' in await reader.readuntil(b"}}")


async def test_a_path_without_a_handler_is_refused_before_kopf_runs():
    async with served(ReviewServer(RESOURCES)) as client:
        assert "has no path" in await refusal(await client.post("/hannel", json=review()))


async def test_a_body_that_is_not_a_review_at_a_path_without_a_handler(client, kopf):
    answer = await client.post("/hannel", data=b"phone +79865784457")
    assert answer.status == 400
    assert await answer.text() == "This is not an AdmissionReview.\n"


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "HEAD"])
async def test_only_post_is_allowed(client, kopf, method):
    assert (await client.request(method, "/channel")).status == 405
    assert kopf.reviews == []


NOT_JSON = {
    "nothing": b"",
    "words": b"phone +79865784457",
    "half": json.dumps(review()).encode()[:200],
    "not UTF-8": b'{"kind": "\xff"}',
    "NaN": b"NaN",
    "binary": bytes(range(256)),
    "deep": b"[" * 100_000,
}
NO_REVIEW = {
    "null": None,
    "a list": [review()],
    "a string": "AdmissionReview",
    "a number": 7,
    "empty": {},
    "another kind": {**review(), "kind": "ConversionReview"},
    "another group": {**review(), "apiVersion": "authorization.k8s.io/v1"},
    "no version": {**review(), "apiVersion": None},
    "no request": {key: value for key, value in review().items() if key != "request"},
    "a request that is a list": {**review(), "request": [1]},
    "an answer": {**review(), "request": None, "response": {"uid": "review-1", "allowed": True}},
}


@pytest.mark.parametrize(
    "data",
    [*NOT_JSON.values(), *(json.dumps(each).encode() for each in NO_REVIEW.values())],
    ids=[*NOT_JSON, *NO_REVIEW],
)
async def test_a_body_that_is_not_a_review(client, kopf, data):
    answer = await client.post("/channel", data=data)
    assert answer.status == 400
    assert (await answer.text()).count("\n") == 1
    assert kopf.reviews == []


def without(*path):
    body = review()
    inner = body["request"]
    for key in path[:-1]:
        inner = inner[key]
    del inner[path[-1]]
    return body


def with_(value, *path):
    body = review()
    inner = body["request"]
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    return body


MISSING = {
    "uid": without("uid"),
    "uid, a number": with_(1, "uid"),
    "operation": without("operation"),
    "resource": without("resource"),
    "resource, a string": with_("wazzupchannels", "resource"),
    "object": without("object"),
    "object, null": with_(None, "object"),
    "object, a list": with_([], "object"),
    "object, empty": with_({}, "object"),
    "oldObject of an update": without("oldObject"),
    "oldObject, a string": with_("x", "oldObject"),
    "metadata": without("object", "metadata"),
    "metadata, null": with_(None, "object", "metadata"),
    "name": without("object", "metadata", "name"),
    "name, a number": with_(1, "object", "metadata", "name"),
    "namespace": without("object", "metadata", "namespace"),
    "spec": without("object", "spec"),
    "old spec": without("oldObject", "spec"),
    "operation, a number": with_(1, "operation"),
}


@pytest.mark.parametrize("body", MISSING.values(), ids=MISSING)
async def test_a_review_with_a_missing_or_invalid_part(client, kopf, body):
    assert (await client.post("/channel", json=body)).status == 400
    assert kopf.reviews == []


async def test_a_deletion_has_only_an_old_object(client, kopf):
    body = review("DELETE", object=None, oldObject=stored())
    assert (await client.post("/channel", json=body)).status == 200
    assert len(kopf.reviews) == 1


@pytest.mark.parametrize(
    ("path", "resource", "named", "wanted"),
    [
        ("/account", RESOURCE, "wazzupchannels.v1.wazzup.dev", "wazzupaccounts"),
        (
            "/channel",
            {**RESOURCE, "resource": "wazzupaccounts"},
            "wazzupaccounts.v1.wazzup.dev",
            "wazzupchannels",
        ),
        (
            "/channel",
            {"group": "", "version": "v1", "resource": "pods"},
            "pods.v1",
            "wazzupchannels",
        ),
        (
            "/channel",
            {**RESOURCE, "group": "example.org"},
            "wazzupchannels.v1.example.org",
            "wazzupchannels",
        ),
        (
            "/channel",
            {**RESOURCE, "version": "v2"},
            "wazzupchannels.v2.wazzup.dev",
            "wazzupchannels",
        ),
    ],
)
async def test_a_review_of_a_resource_at_the_path_of_another(
    client, kopf, path, resource, named, wanted
):
    assert await refusal(await client.post(path, json=review(resource=resource))) == (
        f"The webhook's path {path} is for {wanted}.v1.wazzup.dev, not for {named}; correct"
        " clientConfig and rules in the webhook configuration."
    )
    assert kopf.reviews == []


@pytest.mark.parametrize("version", ["v1beta1", "v2"])
async def test_a_review_of_an_unknown_version(client, kopf, version):
    body = review() | {"apiVersion": f"admission.k8s.io/{version}"}
    assert await refusal(await client.post("/channel", json=body), version) == (
        "The webhook understands admission.k8s.io/v1 only; correct admissionReviewVersions in the"
        " webhook configuration."
    )
    assert kopf.reviews == []


async def test_an_operation_that_is_not_reviewed(client, kopf):
    body = review("CONNECT", oldObject=None)
    assert await refusal(await client.post("/channel", json=body)) == (
        "The webhook does not review the operation CONNECT; correct rules in the webhook"
        " configuration."
    )
    assert kopf.reviews == []


async def test_a_body_of_10_mib_is_refused(client, kopf):
    assert (await client.post("/channel", data=io.BytesIO(b"x" * 10 * 2**20))).status == 413
    assert kopf.reviews == []
    assert (await client.post("/channel", json=review())).status == 200


async def test_a_review_with_two_objects_as_large_as_etcd_stores_is_answered(client, kopf):
    body = review()
    for key in ("object", "oldObject"):
        body["request"][key]["spec"]["displayName"] = "x" * 1_500_000
    data = json.dumps(body).encode()
    assert len(data) < MAX_BODY
    assert (await client.post("/channel", data=io.BytesIO(data))).status == 200
    assert len(kopf.reviews) == 1


async def test_a_review_over_the_limit_is_refused_not_failed(client, kopf):
    large = json.dumps(review()).encode() + b" " * MAX_BODY
    answer = await client.post("/channel", data=io.BytesIO(large))
    assert await refusal(answer) == "The object is too large to be reviewed; remove data from it."
    without_uid = large.replace(b"uid", b"UID")
    assert (await client.post("/channel", data=io.BytesIO(without_uid))).status == 413
    assert kopf.reviews == []


async def test_a_review_that_is_nested_too_deeply_is_refused_not_failed(client, kopf):
    deep = json.dumps(review()).encode().replace(b'"spec": {', b'"spec": {"x": ' + b"[" * 10_000)
    answer = await client.post("/channel", data=deep)
    assert await refusal(answer) == (
        "The object is nested too deeply to be reviewed; remove data from it."
    )
    assert (await client.post("/channel", data=deep.replace(b"uid", b"UID"))).status == 400
    assert kopf.reviews == []


async def test_reviews_over_the_limit_get_503_at_once(monkeypatch):
    monkeypatch.setattr(server_module, "MAX_REVIEWS", 2)
    kopf, released = Kopf(), asyncio.Event()

    async def slow(request, *, webhook):
        if webhook:
            await released.wait()
        return await kopf(request, webhook=webhook)

    async with served(ReviewServer(RESOURCES), slow) as client:
        reviews = [asyncio.create_task(client.post("/channel", json=review())) for _ in range(3)]
        (first,), waiting = await asyncio.wait(reviews, return_when=asyncio.FIRST_COMPLETED)
        answer = first.result()
        assert answer.status == 503
        assert "Retry-After" not in answer.headers
        released.set()
        assert [(await each).status for each in waiting] == [200, 200]
        assert (await client.post("/channel", json=review())).status == 200


async def test_reviews_get_503_while_kopf_does_not_run():
    server = ReviewServer(RESOURCES)
    async with served(server) as client:
        assert not server.ready
        assert (await client.post("/channel", json=review())).status == 503
        async with served(server, Kopf()):
            assert server.ready
            assert (await client.post("/channel", json=review())).status == 200
        assert not server.ready
        assert (await client.post("/channel", json=review())).status == 503


@pytest.mark.parametrize("plural", RESOURCES.values())
async def test_a_kopf_that_has_missed_a_kind_is_ended_and_never_ready(plural, caplog):
    kopf, server = Kopf(), ReviewServer(RESOURCES)
    kopf.unknown = plural
    with pytest.raises(StopAsyncIteration):
        await anext(server(kopf))
    assert not server.ready
    assert f"{plural} has no handlers" in caplog.text
    kopf.unknown = None
    async with served(server, kopf) as client:
        assert server.ready
        assert (await client.post("/channel", json=review())).status == 200


@pytest.mark.parametrize(
    ("query", "seconds"),
    [
        ("", 2.0),
        ("?timeout=30s", 20.0),
        ("?timeout=10s", 20 / 3),
        ("?timeout=3s", 2.0),
        ("?timeout=1s", 2 / 3),
        ("?timeout=99s", 20.0),
        ("?timeout=1m0s", 2.0),
        ("?timeout=-1s", 2.0),
        ("?timeout=\u0663s", 2.0),
        ("?timeout=", 2.0),
    ],
)
async def test_lookups_time_out_well_before_the_api_server(client, kopf, query, seconds):
    loop = asyncio.get_running_loop()
    before = loop.time()
    assert (await client.post(f"/channel{query}", json=review())).status == 200
    assert before + seconds <= kopf.deadline <= loop.time() + seconds


async def test_a_review_that_kopf_cannot_answer_gets_500(client, kopf, caplog):
    kopf.error = LookupError("no such resource")
    answer = await client.post("/channel", json=review())
    assert answer.status == 500
    assert "no such resource" not in await answer.text()
    assert "Cannot answer a review" in caplog.text


async def test_what_kopf_cannot_judge_gets_500_with_the_reason(client, kopf):
    kopf.status = {"status": {"code": 422, "message": "the number is taken"}}
    answer = await client.post("/channel", json=review())
    assert not (await answer.json())["response"]["allowed"]
    kopf.status = {"status": {"code": 500, "message": "Cannot look up the number."}}
    answer = await client.post("/channel", json=review())
    assert answer.status == 500
    assert answer.content_type == "text/plain"
    assert "Retry-After" not in answer.headers  # the API server would call again
    assert await answer.text() == "Cannot look up the number.\n"


async def test_a_draining_server_closes_each_connection_after_its_answer(kopf):
    server = ReviewServer(RESOURCES)
    async with served(server, kopf) as client:
        assert (await client.post("/channel", json=review())).headers.get("Connection") is None
        client.requests.draining = True
        for path in ("/channel", "/hannel"):
            answer = await client.post(path, json=review())
            assert answer.status == 200
            assert answer.headers["Connection"] == "close"


@pytest.mark.parametrize(
    "sent",
    [
        b"Content-Length: 100\r\n\r\n{",
        b"Transfer-Encoding: chunked\r\n\r\n1\r\n{\r\n",
    ],
)
async def test_a_client_that_disconnects_mid_request_logs_no_error(kopf, caplog, sent):
    server = ReviewServer(RESOURCES)
    async with served(server, kopf) as client:
        _, writer = await asyncio.open_connection("127.0.0.1", client.port)
        writer.write(b"POST /channel HTTP/1.1\r\nHost: x\r\n" + sent)
        await writer.drain()
        writer.close()
        await writer.wait_closed()
        assert (await client.post("/channel", json=review())).status == 200
    assert len(kopf.reviews) == 1
    assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []


async def test_a_body_without_content_length_is_not_received(client, kopf):
    async def chunks():
        yield json.dumps(review()).encode()

    assert (await client.post("/channel", data=chunks())).status == 411
    assert kopf.reviews == []


async def test_a_body_that_never_arrives_times_out(client, kopf, monkeypatch):
    monkeypatch.setattr(requests_module, "READ_TIMEOUT", 0.1)
    reader, writer = await asyncio.open_connection("127.0.0.1", client.port)
    writer.write(b"POST /channel HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{")
    assert (await reader.readline()).startswith(b"HTTP/1.1 408 ")
    writer.close()
    await writer.wait_closed()
    assert kopf.reviews == []


def test_the_paths_never_change():
    assert {CHANNEL: "wazzupchannels", ACCOUNT: "wazzupaccounts"} == RESOURCES
    assert PATHS == RESOURCES


async def test_a_hanging_kopf_is_stuck_until_it_answers_again(monkeypatch, caplog):
    monkeypatch.setattr(server_module, "ANSWER_TIMEOUT", 0.05)
    kopf, server = Kopf(), ReviewServer(RESOURCES)
    resumed = asyncio.Event()

    async def hang(request, *, webhook):
        if webhook:
            await resumed.wait()
        return await kopf(request, webhook=webhook)

    async def unanswered(client):
        return (await client.post("/channel", json=review())).status == 504

    async with served(server, hang) as client:
        assert server.stuck() is None
        # At the same time, as after a pause of the machine.
        assert await asyncio.gather(*(unanswered(client) for _ in range(5))) == [True] * 5
        assert server.stuck() is None
        assert await unanswered(client)
        assert server.stuck() == "kopf has stopped answering reviews"
        resumed.set()
        answer = await client.post("/channel", json=review())
        assert answer.status == 200
        assert server.stuck() is None
        resumed.clear()
        assert await unanswered(client)
        assert server.stuck() is None


async def test_reviews_are_counted_by_path_and_code(client):
    def counted(webhook, code):
        labels = {"webhook": webhook, "code": code}
        return registry.get_sample_value("controller_runtime_webhook_requests_total", labels) or 0

    before = [counted("channel", "200"), counted("unknown", "400"), counted("channel", "400")]
    await client.post("/channel", json=review())
    await client.post("/any/path/that/somebody/tries", json={})
    await client.post("/channel", json={})
    after = [counted("channel", "200"), counted("unknown", "400"), counted("channel", "400")]
    assert [now - then for now, then in zip(after, before, strict=True)] == [1, 1, 1]
    in_flight = registry.get_sample_value(
        "controller_runtime_webhook_requests_in_flight", {"webhook": "channel"}
    )
    assert in_flight == 0
