"""The steps of a history, and how often each occurs."""

from typing import Any

from hypothesis import strategies as st

from tests.expected_states import SPELLINGS
from tests.unit.histories.process import AC, CH, DEFAULT, FAR, ROWS, SECOND, SLOTS

SHOWN = [*SPELLINGS, "QRidle", "melted"]
"""Fields of a channel in Wazzup."""

NUMBERS = {id_: number for rows in ROWS.values() for id_, (_, number) in rows.items()}

CHANNEL_STEPS = [
    *(("create", slot, 0) for slot in SLOTS),
    *(("create", slot, 1) for slot in SLOTS),
    *(("create", slot, 2, {"active": False}) for slot in SLOTS),
    ("create", "c0", 0, {"transport": "wapi"}),
    ("create", "c1", 0, {"channelID": "b"}),
    ("create", "c1", 0, {"channelID": "w"}),
    ("create", "c3", 1, {"channelID": "a"}),
    *(("recreate", slot, number) for slot in SLOTS for number in (0, 1)),
    ("recreate", "c1", 0, {"accountRef": {"name": "second"}}),
    ("recreate", "c1", 0, {"annotations": {"wazzup.dev/replaces": "c0"}}),
    *(("delete", slot) for slot in SLOTS),
    *(("delete", slot) for slot in SLOTS),
    ("finish", "c0"),
    ("finish", "c3"),
    *(("edit", slot, "active") for slot in SLOTS),
    *(("edit", slot, "active") for slot in SLOTS),
    ("edit", "c0", "displayName", "Support"),
    ("edit", "c0", "displayName", None),
    ("edit", "c0", "channelID", "b"),
    *(("edit", slot, "channelID", "a") for slot in ("c0", "c0", "c3", "c3")),
    ("edit", "c0", "channelID", "c"),
    ("edit", "c3", "channelID", "w"),
    ("edit", "c3", "channelID", "a"),
    *(("move", slot, name) for slot in ("c0", "c1", "c2") for name in ("default", "second")),
    ("move", "c0", "second"),
    ("move", "c0", "default"),
    ("move", "c0", "second", {"channelID": "x"}),
    ("move", "c0", "default", {"channelID": None}),
    ("move", "c3", "second"),
    ("move", "c3", "default"),
    *(("annotate", slot, "paused", "true") for slot in SLOTS),
    *(("annotate", slot, "paused", None) for slot in SLOTS),
    ("annotate", "c1", "replaces", "c0"),
    ("annotate", "c0", "requested-at", "now"),
    *(("open", key) for key in (DEFAULT, SECOND, FAR)),
    *(("close", key) for key in (DEFAULT, SECOND, FAR)),
    *(("reopen", key) for key in (DEFAULT, SECOND, FAR)),
    *(("rekey", key) for key in (DEFAULT, SECOND, FAR)),
    ("annotate_account", DEFAULT, "paused", "true"),
    ("annotate_account", DEFAULT, "paused", None),
    ("annotate_account", FAR, "paused", "true"),
    ("annotate_account", FAR, "paused", None),
    ("annotate_account", DEFAULT, "requested-at", "now"),
]
"""What people do to objects."""

ALTERED_STEPS = [
    *(("row", "a", {"state": state, "name": "Support"}) for state in SHOWN),
    *(("row", "c", {"state": state, "name": "Sales"}) for state in SHOWN),
    *(("row", id_, {"state": state}) for id_ in "bmx" for state in ("active", "disabled", "qr")),
    *(("row", id_, {"name": name}) for id_ in "ac" for name in ("Support", "Sales", None)),
    ("row", "a", {"plainId": None}),
    ("row", "a", {"plainId": NUMBERS["a"]}),
    *(("add", id_) for id_ in "abcmwxy"),
    *(("remove", id_) for id_ in "aabcmx"),
    *(("add_again", state) for state in ("qridle", "blocked", "disabled", None)),
]
"""What happens in Wazzup."""

FAULT_STEPS = [
    ("listings", "none"),
    ("listings", "none"),
    ("listings", "half"),
    ("listings", "other half"),
    ("listings", "contradiction"),
    ("listings", "damage"),
    ("listings", "wreck", "wreck"),
    ("listings", "none", "unreachable", "half"),
    ("listings", "none", "none", "half", "none"),
    *(("trouble", key, each) for key in (DEFAULT, FAR) for each in ("none", "half")),
    ("listings", "slow"),
    ("listings", "unreachable"),
    ("listings", "429 30", "429 600"),
    *(("trouble", key, "") for key in (DEFAULT, DEFAULT, FAR)),
    *(("trouble", DEFAULT, each) for each in ("unreachable", "invalid", "missing", "kube")),
    *(("trouble", FAR, each) for each in ("429 600", "empty", "broken", "unreachable")),
    ("depose",),
    ("depose",),
    ("end_deposed",),
]
"""Steps that hide facts or keep outdated ones."""

DELIVERY_STEPS = [
    *(("hold", plural) for plural in (CH, AC)),
    *(("flow", plural) for plural in (CH, AC)),
    *(("deliver", plural, events) for plural in (CH, AC) for events in (1, 3)),
    *(("cut", plural, end) for plural in (CH, AC) for end in ("gone", "broken", "over")),
    *(("cut", CH, "gone") for _ in range(3)),
    *(("pace", pace) for pace in ("late", "late", "ok", "ok")),
    ("server", True),
    ("server", False),
    ("server", False),
    *(("restore", changes) for changes in (1, 3, 10)),
    ("writes", "lost"),
    ("writes", "late", "late", "lost"),
    ("writes", "unreachable"),
    ("writes", "ok", "refused"),
    *(("refuse", slot) for slot in ("c0", "c3")),
    ("restart",),
    ("restart",),
]
"""Steps between the API server and the operator."""

SLOW_WRITES = [("writes", "slow"), ("writes", "ok", "slow", "slow", "slow"), ("pace", "slow")]
CLOCKS = [("clock", 3600), ("clock", -3600), ("clock", 0)]
WAITS = [("wait", seconds) for seconds in (0, 0.4, 1.2, 2.5, 6, 30, 200)]
LONG_WAITS = [("wait", seconds) for seconds in (700, 1000, 4000)]

NOTHING = ("wait", 0)


def some_of(*tables: tuple[list[Any], int], length: int) -> st.SearchStrategy[Any]:
    """Return histories of steps from weighted tables."""
    steps = [NOTHING]
    for table, weight in tables:
        steps += (table * (1 + 100 * weight // len(table)))[: 100 * weight]
    step = st.sampled_from(steps)
    return st.tuples(*[step] * length).map(
        lambda drawn: [each for each in drawn if each is not NOTHING]
    )


everything = some_of(
    (CHANNEL_STEPS, 6),
    (ALTERED_STEPS, 3),
    (FAULT_STEPS, 3),
    (DELIVERY_STEPS, 4),
    (SLOW_WRITES, 1),
    (CLOCKS, 1),
    (WAITS, 6),
    (LONG_WAITS, 1),
    length=26,
)
steady = some_of(
    (CHANNEL_STEPS, 5),
    (ALTERED_STEPS, 2),
    (FAULT_STEPS, 4),
    (DELIVERY_STEPS, 3),
    (WAITS, 5),
    (LONG_WAITS, 1),
    length=14,
)
"""The same with a correct wall clock, since the age of a record depends on it."""
OUTAGES = [
    ("unreachable", "AccountUnreachable"),
    ("invalid", "CredentialsInvalid"),
    ("missing", "SecretNotFound"),
    ("kube", "AccountUnreachable"),
]
afterwards = some_of((CHANNEL_STEPS, 5), (DELIVERY_STEPS, 3), (WAITS, 3), length=8)
"""Steps that must show at once although Wazzup does not change."""
