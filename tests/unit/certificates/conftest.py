"""A cluster with what helm installs: the webhook's configuration and an empty Secret."""

import pytest

from tests.unit.certificates.cluster import Cluster


@pytest.fixture
def cluster():
    cluster = Cluster()
    cluster.install()
    return cluster
