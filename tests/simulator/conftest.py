import uuid
from collections.abc import Iterator
from http.client import HTTPConnection
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.simulator.customer import Customer, Get, Response
from wazzup_simulator.client import Simulator


@pytest.fixture(scope="session")
def process() -> Iterator[Simulator]:
    with Simulator.launch() as simulator:
        yield simulator


@pytest.fixture
def simulator(process: Simulator) -> Iterator[Simulator]:
    yield process
    process.clear_faults()


@pytest.fixture
def customer(simulator: Simulator) -> Customer:
    account, key = f"customer-{uuid.uuid4()}", uuid.uuid4().hex
    simulator.add_account([key], id=account)
    return Customer(account, key)


@pytest.fixture
def get(simulator: Simulator) -> Get:
    """Send one request to the API."""

    def get(
        key: str | None,
        path: str = "/v3/channels",
        *,
        method: str = "GET",
        authorization: str | None = None,
        timeout: float = 5,
    ) -> Response:
        # Keys may contain non-ASCII bytes.
        headers: dict[str, Any] = {} if key is None else {"Authorization": f"Bearer {key}"}
        if authorization is not None:
            headers = {"Authorization": authorization.encode()}
        connection = HTTPConnection(urlsplit(simulator.base_url).netloc, timeout=timeout)
        try:
            connection.request(method, path, headers=headers)
            response = connection.getresponse()
            return Response(response.status, response.headers, response.read())
        finally:
            connection.close()

    return get
