"""Objects from JSON, and statuses to JSON."""

from datetime import UTC

import pytest

from tests.unit.build import body, channel
from wazzup_operator.resources.codec import CHANNELS

LONG = f"2026-01-01T00:00:00.{40 * '0'}Z"


def since(time):
    return CHANNELS.decode({**body(channel()), "status": {"stateSince": time}}).status


@pytest.mark.parametrize(
    "time", ["2026-01-01T00:00:00Z", "2026-01-01T03:00:00+03:00", "2026-01-01t00:00:00z", LONG]
)
def test_a_time_in_any_form(time):
    status = since(time)
    assert CHANNELS.status_json(status)["stateSince"] == "2026-01-01T00:00:00Z"
    assert status.state_since.tzinfo is UTC


def test_a_time_that_many_objects_have_is_in_memory_once():
    one, other = (CHANNELS.decode(body(channel(name))) for name in "ab")
    assert one.metadata.creation_timestamp is other.metadata.creation_timestamp
    assert since("2026-01-01T00:00:00Z").state_since is since("2026-01-01T00:00:00Z").state_since


def test_a_long_time_is_not_kept():
    assert since(LONG).state_since is not since(LONG).state_since
