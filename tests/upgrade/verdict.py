"""What a run has stored, asked for and logged, and what is wrong with it."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import orjson

from tests.chart.pods import Pod
from tests.drills.judge import Write, condition, judge
from tests.drills.truth import Truth
from tests.integration.harness.api import JSON
from tests.upgrade.load import TAKEN, Reviews
from tests.upgrade.release import SYSTEM, Release


def wrong_statuses(truth: Truth) -> list[str]:
    """Describe the statuses that were wrong when they were written.

    A PATCH without effect is none: an older CRD prunes what a newer version adds. The versions are
    judged one by one: a status whose words another version changes is not written twice.
    """
    facts, stored = truth.facts(), [each for each in truth.written() if each.changed]
    by_version = {
        version: [each for each in stored if each.replica.startswith(f"{version}-")]
        for version in ("old", "new")
    }
    return [
        *by_neither(stored),
        *(str(each) for writes in by_version.values() for each in judge(writes, facts)),
    ]


def by_neither(writes: Sequence[Write]) -> list[str]:
    """Describe the statuses that no replica of either version wrote."""
    return [
        f"{each.name}: {each.replica or 'an unknown replica'} wrote it, of neither version."
        for each in writes
        if not each.replica.startswith(("old-", "new-"))
    ]


def moved_times(writes: Sequence[Write]) -> list[str]:
    """Describe the times that moved without cause."""
    return [
        f"{each.name}: {each.replica} {sentence}."
        for each in writes
        if each.last_known.get("conditions")
        for sentence in _moved(each.last_known, each)
    ]


def _moved(before: JSON, write: Write) -> Iterator[str]:
    after = write.status
    same = before.get("state") == after.get("state")
    if same and before.get("stateSince") != after.get("stateSince"):
        yield (
            f"moved stateSince, while the state stayed {after.get('state')}, from"
            f" {before.get('stateSince')} to {after.get('stateSince')}"
        )
    for new in after["conditions"]:
        old = condition(before, new["type"])
        if old is None or _restarts(new["type"], before, write):
            continue
        same = old["status"] == new["status"]
        if same and old["lastTransitionTime"] != new["lastTransitionTime"]:
            yield (
                f"moved lastTransitionTime, while {new['type']} stayed {new['status']}, from"
                f" {old['lastTransitionTime']} to {new['lastTransitionTime']}"
            )


def _restarts(type_: str, before: JSON, write: Write) -> bool:
    """Return whether a new generation starts this condition again."""
    return type_ == "Reconciling" and before.get("observedGeneration") != write.generation


def moved_claims(writes: Sequence[Write]) -> list[str]:
    """Describe the objects that lost or got a number that two objects declare."""
    return [
        f"{each.name}: {each.replica} let the number change hands."
        for each in writes
        for before, after in ((each.last_known, each.status),)
        if (_is_duplicate(before) and "channelID" in after)
        or ("channelID" in before and _is_duplicate(after))
    ]


def _is_duplicate(status: JSON) -> bool:
    return (condition(status, "Ready") or {}).get("reason") == "DuplicatePhoneNumber"


def lost_reviews(reviews: Reviews, release: Release) -> list[str]:
    """Describe the reviews that ended wrong.

    A taken number needs a list, which the API server may refuse just after the CRDs have changed.
    """
    return [
        str(each)
        for each in reviews.wrong
        if each.number != TAKEN or not release.may_refuse_lists(each.time)
    ]


def refused_requests(audit_log: Path) -> list[str]:
    """Describe the operator's requests that were forbidden or invalid.

    Except those for Secrets in the release's namespace: under the other version's chart, the one of
    the webhook may have another name.
    """
    found = {}
    with audit_log.open("rb") as lines:
        for line in lines:
            if f'"username":"system:serviceaccount:{SYSTEM}:'.encode() not in line:
                continue
            entry = orjson.loads(line)
            code = entry.get("responseStatus", {}).get("code", 0)
            target = entry.get("objectRef", {})
            secret = target.get("resource") == "secrets" and target.get("namespace") == SYSTEM
            if code in (400, 403, 422) and not secret:
                pod = entry["user"]["groups"][0]
                what = f"{entry['verb']} {target.get('resource')}"
                found[pod, what, code] = entry["responseStatus"].get("message", "")
    return [
        f"{pod}: {what} was refused with {code}: {why}" for (pod, what, code), why in found.items()
    ]


def logged_errors(pods: Sequence[Pod]) -> list[str]:
    """Return the first error in the log of each Pod."""
    return [
        f"{pod.name} logged: {line}"
        for pod in pods
        for line in [each for each in pod.log().splitlines() if _is_error(each)][:1]
    ]


def _is_error(line: str) -> bool:
    return " ERROR " in line or line.startswith("Traceback")
