"""The server of the webhook, without TLS and without kopf: what it takes, and what it hands on."""

import asyncio
import copy
import io
import json
import logging
from contextlib import asynccontextmanager

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from wazzup_operator.admission import server as server_module
from wazzup_operator.admission.server import MAX_BODY, ReviewServer

RESOURCES = {"channel": "wazzupchannels", "account": "wazzupaccounts"}
RESOURCE = {"group": "wazzup.dev", "version": "v1", "resource": "wazzupchannels"}


@pytest.fixture(autouse=True)
def no_implicit_event_loop():
    """Before Python 3.14, pytest-asyncio asks for a loop that is then made and never closed."""
    asyncio.set_event_loop(None)


def thing(**spec):
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
            "object": thing(),
            "oldObject": thing(active=False) if operation == "UPDATE" else None,
            **request,
        },
    }


class Kopf:
    """Stands for kopf: keeps what it is asked, and lets everything in."""

    def __init__(self):
        self.asked = []
        self.error = None
        self.status = {}

    async def __call__(self, request, *, webhook):
        self.asked.append((webhook, copy.deepcopy(request)))
        if self.error:
            raise self.error
        response = {"uid": request["request"]["uid"], "allowed": not self.status, **self.status}
        return {"apiVersion": request["apiVersion"], "kind": request["kind"], "response": response}


@asynccontextmanager
async def served(server, kopf=None):
    """Serve, with this kopf there to answer, if any."""
    async with TestClient(TestServer(server.app())) as client:
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


async def test_a_review_is_handed_on_with_its_path_and_its_answer_given_back(client, kopf):
    answer = await client.post("/channel", json=review())
    assert answer.status == 200
    assert answer.content_type == "application/json"
    assert await answer.json() == {
        "apiVersion": "admission.k8s.io/v1",
        "kind": "AdmissionReview",
        "response": {"uid": "review-1", "allowed": True},
    }
    assert [webhook for webhook, _ in kopf.asked] == ["channel"]


async def test_kopf_never_sees_an_object_s_uid(client, kopf):
    for operation in ("CREATE", "UPDATE"):
        assert (await client.post("/channel", json=review(operation))).status == 200
    for _, asked in kopf.asked:
        request = asked["request"]
        assert request["uid"] == "review-1"
        for body in filter(None, (request["object"], request["oldObject"])):
            assert body["metadata"] == {"name": "support", "namespace": "shop"}


async def test_an_object_without_a_uid_is_no_trouble(client):
    body = review("CREATE")
    del body["request"]["object"]["metadata"]["uid"]
    assert (await client.post("/channel", json=body)).status == 200


@pytest.mark.parametrize(
    "path", ["/", "/channels", "/channel/", "/channel/x", "/CHANNEL", "/healthz", "/x/../channels"]
)
async def test_a_path_that_no_handler_has(client, kopf, path):
    assert (await client.post(path, json=review())).status == 404
    assert kopf.asked == []


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "HEAD"])
async def test_a_method_that_no_api_server_uses(client, kopf, method):
    assert (await client.request(method, "/channel")).status == 405
    assert kopf.asked == []


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
    "an older version": {**review(), "apiVersion": "admission.k8s.io/v1beta1"},
    "no request": {key: value for key, value in review().items() if key != "request"},
    "a request that is a list": {**review(), "request": [1]},
    "an answer": {**review(), "request": None, "response": {"uid": "review-1", "allowed": True}},
}


@pytest.mark.parametrize(
    "data",
    [*NOT_JSON.values(), *(json.dumps(each).encode() for each in NO_REVIEW.values())],
    ids=[*NOT_JSON, *NO_REVIEW],
)
async def test_what_is_not_a_review(client, kopf, data):
    answer = await client.post("/channel", data=data)
    assert answer.status == 400
    assert (await answer.text()).count("\n") == 1
    assert kopf.asked == []


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
    "operation, unknown": with_("EXPLODE", "operation"),
    "resource": without("resource"),
    "resource, a string": with_("wazzupchannels", "resource"),
    "userInfo": without("userInfo"),
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
    "spec, a list": with_([], "object", "spec"),
    "old spec": without("oldObject", "spec"),
    "annotations, a list": with_([1], "object", "metadata", "annotations"),
}


@pytest.mark.parametrize("body", MISSING.values(), ids=MISSING)
async def test_a_review_with_a_part_that_is_missing_or_wrong(client, kopf, body):
    assert (await client.post("/channel", json=body)).status == 400
    assert kopf.asked == []


async def test_a_deletion_has_only_an_old_object(client, kopf):
    body = review("DELETE", object=None, oldObject=thing())
    assert (await client.post("/channel", json=body)).status == 200
    assert len(kopf.asked) == 1


@pytest.mark.parametrize(
    ("path", "resource"),
    [
        ("/account", RESOURCE),
        ("/channel", {**RESOURCE, "resource": "wazzupaccounts"}),
        ("/channel", {**RESOURCE, "resource": "pods", "group": ""}),
        ("/channel", {**RESOURCE, "group": "example.org"}),
        ("/channel", {**RESOURCE, "version": "v2"}),
    ],
)
async def test_another_resource_than_the_path_is_for(client, kopf, path, resource):
    answer = await client.post(path, json=review(resource=resource))
    assert answer.status == 400
    assert "check the paths in the webhook configuration" in await answer.text()
    assert kopf.asked == []


async def test_a_body_of_10_mib_is_refused(client, kopf):
    assert (await client.post("/channel", data=io.BytesIO(b"x" * 10 * 2**20))).status == 413
    assert kopf.asked == []
    assert (await client.post("/channel", json=review())).status == 200


async def test_two_objects_as_large_as_etcd_takes_them_are_let_through(client, kopf):
    body = review()
    for key in ("object", "oldObject"):
        body["request"][key]["spec"]["displayName"] = "x" * 1_500_000
    data = json.dumps(body).encode()
    assert len(data) < MAX_BODY
    assert (await client.post("/channel", data=io.BytesIO(data))).status == 200
    assert len(kopf.asked) == 1


async def test_before_kopf_is_there_and_after_it_went():
    server = ReviewServer(RESOURCES)
    async with served(server) as client:
        assert not server.ready
        assert (await client.post("/channel", json=review())).status == 503
        async with served(server, Kopf()):
            assert server.ready
            assert (await client.post("/channel", json=review())).status == 200
        assert not server.ready
        assert (await client.post("/channel", json=review())).status == 503


async def test_what_kopf_cannot_answer_is_an_error_and_never_let_in(client, kopf, caplog):
    kopf.error = LookupError("no such resource")
    answer = await client.post("/channel", json=review())
    assert answer.status == 500
    assert "no such resource" not in await answer.text()
    assert "a review could not be answered" in caplog.text


async def test_a_handler_that_failed_is_logged_and_a_refusal_is_not(client, kopf, caplog):
    with caplog.at_level(logging.DEBUG):
        kopf.status = {"status": {"code": 422, "message": "the number is taken"}}
        assert not (await (await client.post("/channel", json=review())).json())["response"][
            "allowed"
        ]
        assert "taken" not in caplog.text
        kopf.status = {"status": {"code": 500, "message": "'phoneNumber'"}}
        assert (await client.post("/channel", json=review())).status == 200
        assert "a handler failed: 'phoneNumber'" in caplog.text


async def test_while_draining_each_connection_is_closed_after_its_answer(kopf):
    server = ReviewServer(RESOURCES)
    async with served(server, kopf) as client:
        assert (await client.post("/channel", json=review())).headers.get("Connection") is None
        server.draining = True
        answer = await client.post("/channel", json=review())
        assert answer.status == 200
        assert answer.headers["Connection"] == "close"


@pytest.mark.parametrize(
    "sent",
    [
        b"Content-Length: 100\r\n\r\n{",
        b"Transfer-Encoding: chunked\r\n\r\n1\r\n{\r\n",
    ],
)
async def test_a_client_that_breaks_off_in_the_middle_is_no_error(kopf, caplog, sent):
    server = ReviewServer(RESOURCES)
    async with served(server, kopf) as client:
        _, writer = await asyncio.open_connection("127.0.0.1", client.port)
        writer.write(b"POST /channel HTTP/1.1\r\nHost: x\r\n" + sent)
        await writer.drain()
        writer.close()
        await writer.wait_closed()
        assert (await client.post("/channel", json=review())).status == 200
    assert len(kopf.asked) == 1
    assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []


async def test_a_body_that_is_too_large_and_does_not_say_so(client, kopf):
    async def chunks():
        for _ in range(10):
            yield b"x" * 2**20

    assert (await client.post("/channel", data=chunks())).status == 413
    assert kopf.asked == []


async def test_a_body_that_does_not_arrive(client, kopf, monkeypatch):
    monkeypatch.setattr(server_module, "READ_PATIENCE", 0.1)
    reader, writer = await asyncio.open_connection("127.0.0.1", client.port)
    writer.write(b"POST /channel HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{")
    assert (await reader.readline()).startswith(b"HTTP/1.1 408 ")
    writer.close()
    await writer.wait_closed()
    assert kopf.asked == []


def test_only_the_handlers_have_routes():
    app = ReviewServer(RESOURCES).app()
    assert isinstance(app, web.Application)
    assert {(route.method, route.resource.canonical) for route in app.router.routes()} == {
        ("POST", "/channel"),
        ("POST", "/account"),
    }


async def test_a_kopf_that_hangs_is_told_until_it_answers_again(monkeypatch, caplog):
    monkeypatch.setattr(server_module, "ANSWER_PATIENCE", 0.05)
    kopf, server = Kopf(), ReviewServer(RESOURCES)
    goes_on = asyncio.Event()

    async def hang(request, *, webhook):
        await goes_on.wait()
        return await kopf(request, webhook=webhook)

    async with served(server, hang) as client:
        assert server.stuck() is None
        answer = await client.post("/channel", json=review())
        assert answer.status == 504
        assert server.stuck() == "kopf does not answer reviews any more"
        goes_on.set()
        answer = await client.post("/channel", json=review())
        assert answer.status == 200
        assert server.stuck() is None
