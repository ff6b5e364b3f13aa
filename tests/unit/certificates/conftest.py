"""A cluster with the webhook's configuration and no Secret yet."""

import pytest

from tests.unit.certificates.cluster import Cluster


@pytest.fixture
def cluster():
    cluster = Cluster()
    cluster.install()
    return cluster
