"""The verdict on two versions finds what is wrong."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.drills.judge import Write
from tests.integration.harness.api import JSON
from tests.upgrade import verdict
from tests.upgrade.load import IMPOSSIBLE, TAKEN, Review, Reviews
from tests.upgrade.release import SYSTEM, Release

EARLIER, LATER = "2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z"


def status(moved: str = EARLIER, since: str = EARLIER, reason: str = "Active", **more: Any) -> JSON:
    condition = {"type": "Ready", "status": "True", "reason": reason, "lastTransitionTime": moved}
    return {"state": "Active", "stateSince": since, "conditions": [condition], **more}


def write(before: JSON, after: JSON, replica: str = "new-controller-0") -> Write:
    return Write(
        time=0.0,
        name="sales",
        uid="u1",
        replica=replica,
        account="default",
        number="79000000001",
        active=True,
        generation=1,
        status=after,
        last_known=before,
    )


@pytest.mark.parametrize(
    ("after", "words"),
    [
        (status(), []),
        (status(moved=LATER), ["moved lastTransitionTime, while Ready stayed True"]),
        (status(since=LATER), ["moved stateSince, while the state stayed Active"]),
    ],
)
def test_times_that_moved(after: JSON, words: Sequence[str]) -> None:
    found = verdict.moved_times([write(status(), after)])
    assert len(found) == len(words)
    assert all(each in sentence for each, sentence in zip(words, found, strict=True))


def test_a_number_that_changed_hands() -> None:
    has, lacks = status(channelID="id-a"), status(reason="DuplicatePhoneNumber")
    assert verdict.moved_claims([write(has, has), write(lacks, lacks)]) == []
    sentence = "sales: new-controller-0 let the number change hands."
    assert verdict.moved_claims([write(has, lacks), write(lacks, has)]) == [sentence] * 2


def test_a_writer_of_neither_version() -> None:
    writes = [write({}, status(), replica) for replica in ("old-controller-1", "newer-0", "")]
    assert verdict.by_neither(writes) == [
        "sales: newer-0 wrote it, of neither version.",
        "sales: an unknown replica wrote it, of neither version.",
    ]


def refusal(resource: str, namespace: str, code: int = 403) -> str:
    entry = {
        "verb": "get",
        "user": {
            "username": f"system:serviceaccount:{SYSTEM}:wz-controller",
            "groups": ["old-controller-0"],
        },
        "objectRef": {"resource": resource, "namespace": namespace},
        "responseStatus": {"code": code, "message": "why"},
    }
    return json.dumps(entry, separators=(",", ":")) + "\n"


def test_a_refused_request(tmp_path: Path) -> None:
    log = tmp_path / "audit.log"
    log.write_text(
        refusal("secrets", SYSTEM)
        + refusal("wazzupchannels", "team", 409)
        + refusal("secrets", "team")
        + refusal("wazzupchannels", "team", 422)
    )
    assert verdict.refused_requests(log) == [
        "old-controller-0: get secrets was refused with 403: why",
        "old-controller-0: get wazzupchannels was refused with 422: why",
    ]


def test_a_lost_review() -> None:
    reviews, release = Reviews.__new__(Reviews), Release.__new__(Release)
    release._crd_changes = [(100.0, 110.0)]
    reviews.wrong = [
        Review(105, TAKEN, "denied", "429"),
        Review(105, IMPOSSIBLE, "denied", "admitted"),
        Review(115, TAKEN, "denied", "admitted"),
    ]
    assert verdict.lost_reviews(reviews, release) == [str(each) for each in reviews.wrong[1:]]


class Log:
    """A Pod that has only a log."""

    def __init__(self, name: str, *lines: str) -> None:
        self.name, self._text = name, "\n".join(lines)

    def log(self) -> str:
        return self._text


def test_a_logged_error() -> None:
    pods = [
        Log("fine", "12:00:00 INFO started"),
        Log("failing", "12:00:00 ERROR the Lease is gone", "12:00:01 ERROR again"),
        Log("crashed", "12:00:00 INFO started", "Traceback (most recent call last):"),
    ]
    assert verdict.logged_errors(pods) == [
        "failing logged: 12:00:00 ERROR the Lease is gone",
        "crashed logged: Traceback (most recent call last):",
    ]
