"""A cluster with the webhook's configuration installed, and no Secret yet."""

import asyncio

import pytest

from tests.unit.certificates.cluster import Cluster


@pytest.fixture(scope="module", autouse=True)
def no_implicit_event_loop():
    """Before Python 3.14, pytest-asyncio asks for a loop that is then made and never closed."""
    asyncio.set_event_loop(None)


@pytest.fixture
def cluster():
    cluster = Cluster()
    cluster.install()
    return cluster
