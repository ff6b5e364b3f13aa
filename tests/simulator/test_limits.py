"""The rate limit, and the record of requests."""

from wazzup_simulator.rate_limit import RateLimit
from wazzup_simulator.record import Record, fingerprint


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_limit_is_per_window_of_five_seconds() -> None:
    clock = Clock()
    limit = RateLimit(clock)
    assert [limit.exceeded("k") for _ in range(500)] == [False] * 500
    clock.now += 4.9
    assert limit.exceeded("k")
    assert not limit.exceeded("another key")
    clock.now += 0.1
    assert not limit.exceeded("k")


def test_record_keeps_the_last_ten_thousand_and_counts_all() -> None:
    record = Record(clock=Clock())
    for number in range(10_001):
        record.add("acme" if number else "other", "GET", f"/v3/{number}", "key")
    kept = record.requests()
    assert (len(kept), kept[0].path, kept[-1].path) == (10_000, "/v3/1", "/v3/10000")
    assert (record.total(), record.total("acme"), record.total("other")) == (10_001, 10_000, 1)
    record.clear()
    assert (record.requests(), record.total(), record.total("acme")) == ([], 0, 0)


def test_record_contains_no_key() -> None:
    entry = Record().add("acme", "GET", "/v3/channels", "my-secret-key")
    assert "my-secret-key" not in repr(entry)
    assert entry.key == fingerprint("my-secret-key") != fingerprint("my-secret-kex")
    assert Record().add(None, "GET", "/v3/channels", None).key is None
