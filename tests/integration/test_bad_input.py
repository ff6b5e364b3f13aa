"""Accounts that are missing or cannot be read, and an operator whose rights are too small."""

import hashlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.integration.harness.api import JSON, account, eventually, secret
from tests.integration.harness.controller import Controller
from tests.integration.harness.world import World

PATIENCE = 30


@dataclass(frozen=True)
class Trouble:
    """A WazzupAccount that cannot be read: how that comes about, and what is to be seen."""

    name: str
    reason: str
    says: str
    """Words of the account's Ready condition."""

    secret: JSON | None
    """The Secret's stringData that makes the trouble; None: there is no Secret."""

    forbidden: bool = False
    """Wazzup gives the key no right to list."""


TROUBLES = [
    Trouble("no-secret", "SecretNotFound", '"no-secret" does not exist', None),
    Trouble("other-key", "SecretNotFound", 'has no key "apiKey"', {"token": "key-nobody"}),
    Trouble("empty", "CredentialsInvalid", "is empty", {"apiKey": ""}),
    Trouble("blank", "CredentialsInvalid", "is empty", {"apiKey": " \n"}),
    Trouble("broken", "CredentialsInvalid", "a line break", {"apiKey": "key-of\nbroken"}),
    Trouble("wrong", "CredentialsInvalid", "(401)", {"apiKey": "key-nobody"}),
    Trouble("no-right", "CredentialsInvalid", "(403)", None, forbidden=True),
]
"""The Secret is named after the account."""


class Accounts:
    """One account in Wazzup and one object for each trouble, each with two active channels."""

    def __init__(self, world: World) -> None:
        self.world = world
        for number, trouble in enumerate(TROUBLES):
            self.world.simulator.add_account([self.key(trouble.name)], id=self.id(trouble.name))
            for phone in self.phones(number):
                self.world.simulator.add_channel(
                    phone.lstrip("+"), account=self.id(trouble.name), state="active"
                )

    def id(self, name: str) -> str:
        return f"{self.world.account}-{name}"

    def key(self, name: str) -> str:
        return f"key-{self.id(name)}"

    def phones(self, number: int) -> tuple[str, str]:
        return f"+7986578{number:02d}01", f"+7986578{number:02d}02"

    def declare(self, number: int, which: int) -> None:
        name = TROUBLES[number].name
        self.world.declare(f"{name}-{which}", self.phones(number)[which], accountRef={"name": name})

    def break_(self, trouble: Trouble) -> None:
        """Make the trouble, whatever was before."""
        api, name = self.world.api, trouble.name
        if api.exists("secret", name):
            api.delete("secret", name)
        if trouble.forbidden:
            self.world.simulator.change_account(self.id(name), forbidden=True)
            api.create(secret(self.key(name), name))
        elif trouble.secret is not None:
            api.create({**secret("", name), "stringData": trouble.secret})

    def mend(self, trouble: Trouble) -> None:
        api, name = self.world.api, trouble.name
        if trouble.forbidden:
            self.world.simulator.change_account(self.id(name), forbidden=False)
        elif trouble.secret is None:
            api.create(secret(self.key(name), name))
        else:
            # A file's last line break is none of the key's.
            api.patch("secret", name, {"stringData": {"apiKey": self.key(name) + "\n"}})

    def looks(self) -> Counter[str]:
        """Return how often the operator read each Secret."""
        reads = self.world.by_operator(self.world.writes("get", "secrets"))
        return Counter(each["objectRef"]["name"] for each in reads)

    def wait_looks(self, more: int) -> None:
        """Wait until every Secret was read so many times more."""
        before = self.looks()

        def looked() -> bool:
            now = self.looks()
            return all(now[each.name] >= before[each.name] + more for each in TROUBLES)

        eventually(looked, f"every account was tried {more} times more", PATIENCE)


def test_an_account_that_cannot_be_read(world: World) -> None:
    world.account_with_key()
    world.declare("healthy", "+79865789901")
    world.add("+79865789901", state="active")
    accounts = Accounts(world)
    for number, trouble in enumerate(TROUBLES):
        accounts.break_(trouble)
        world.api.create(account(trouble.name, trouble.name))
        accounts.declare(number, 0)
    controller = world.controller()

    # Never seen: the reason, at once.
    world.wait_reason("healthy", "Active", seconds=PATIENCE)
    healthy = world.api.get("wazzupchannel", "healthy")
    for trouble in TROUBLES:
        check_account(world, trouble)
        check_never_seen(world, trouble, f"{trouble.name}-0")

    # Mended: by itself. The healthy account's key is rotated meanwhile.
    for trouble in TROUBLES:
        accounts.mend(trouble)
    rotate(world)
    for trouble in TROUBLES:
        world.wait_reason(f"{trouble.name}-0", "Active", seconds=PATIENCE)
        world.wait_reason(trouble.name, "UpToDate", "wazzupaccount")
        assert world.condition(f"{trouble.name}-0", "Synced")["status"] == "True"

    # Broken again: what was seen stays, what is new has the reason.
    seen = {f"{t.name}-0": world.api.get("wazzupchannel", f"{t.name}-0") for t in TROUBLES}
    for trouble in TROUBLES:
        accounts.break_(trouble)
    for number, trouble in enumerate(TROUBLES):
        check_account(world, trouble)
        accounts.declare(number, 1)
        check_never_seen(world, trouble, f"{trouble.name}-1")
    accounts.wait_looks(1)
    check_events(world)
    for name, body in {**seen, "healthy": healthy}.items():
        assert world.api.get("wazzupchannel", name) == body, "an outage was written"
    assert len([each for each in world.writes() if each["objectRef"]["name"] == "healthy"]) == 1
    for trouble in TROUBLES:
        assert accounts.key(trouble.name) not in controller.log() + controller.metrics()


def check_never_seen(world: World, trouble: Trouble, name: str) -> None:
    status = world.wait_reason(name, trouble.reason)
    assert status["state"] == "Unknown"
    assert "channelID" not in status
    assert "action" not in status
    assert world.condition(name, "Ready")["status"] == "Unknown"
    assert world.condition(name, "Synced")["status"] == "False"


def rotate(world: World) -> None:
    """Put a new key into the Secret, and revoke the old one once the new one is used."""
    new = f"{world.key}-new"
    world.simulator.change_account(world.account, keys=[world.key, new])
    world.api.patch("secret", "wazzup", {"stringData": {"apiKey": new}})
    mark = hashlib.sha256(new.encode()).hexdigest()[:8]
    eventually(
        lambda: world.simulator.requests(world.account).requests[-1].key == mark,
        "the new key is used",
        PATIENCE,
    )
    world.simulator.change_account(world.account, keys=[new])


def check_account(world: World, trouble: Trouble) -> None:
    world.wait_reason(trouble.name, trouble.reason, "wazzupaccount", PATIENCE)
    ready = world.condition(trouble.name, "Ready", "wazzupaccount")
    assert ready["status"] == "False"
    assert trouble.says in ready["message"], ready
    assert ready["message"].endswith(".")
    assert "Secret" in ready["message"], "what to do is in the Secret"


def check_events(world: World) -> None:
    """Two outages and one recovery: one Event each, on the account alone."""
    expected = {("WazzupAccount", each.name, "Warning", each.reason): 2 for each in TROUBLES}
    expected |= {("WazzupAccount", each.name, "Normal", "UpToDate"): 1 for each in TROUBLES}
    eventually(lambda: told(world) == expected, "exactly these Events")


def told(world: World) -> dict[tuple[str, str, str, str], int]:
    """Count the Events by kind and name of the object, type and reason."""
    return dict(
        Counter(
            (each["regarding"]["kind"], each["regarding"]["name"], each["type"], each["reason"])
            for each in world.api.list("event")
        )
    )


def test_an_account_that_comes_and_goes(world: World) -> None:
    world.api.create(secret(world.key))
    world.declare("support", "+79865784457")
    listed = world.add("+79865784457", state="active")
    controller = world.controller()
    status = world.wait_reason("support", "AccountNotFound", seconds=PATIENCE)
    assert status["state"] == "Unknown"
    ready = world.condition("support", "Ready")
    assert ready["status"] == "Unknown"
    assert '"default"' in ready["message"]
    assert "Create it" in ready["message"]
    assert controller.count("wazzup_channels", account="default", state="Unknown") == 1
    assert world.requests() == 0

    world.api.create(account())
    status = world.wait_reason("support", "Active", seconds=5)
    assert status["channelID"] == listed.id

    world.api.delete("wazzupaccount", "default")
    status = world.wait_reason("support", "AccountNotFound", seconds=5)
    assert status["state"] == "Unknown"
    assert status["channelID"] == listed.id
    assert world.condition("support", "Synced")["status"] == "False"

    world.api.create(account())
    status = world.wait_reason("support", "Active", seconds=5)
    assert status["channelID"] == listed.id
    assert told(world) == {}, "there was no account to tell it of"


RULES = {
    "follow": {
        "apiGroups": ["wazzup.dev"],
        "resources": ["wazzupaccounts", "wazzupchannels"],
        "verbs": ["get", "list", "watch"],
    },
    "patch": {
        "apiGroups": ["wazzup.dev"],
        "resources": ["wazzupaccounts/status", "wazzupchannels/status"],
        "verbs": ["patch"],
    },
    "secrets": {"apiGroups": [""], "resources": ["secrets"], "verbs": ["get"]},
    "events": {"apiGroups": ["events.k8s.io"], "resources": ["events"], "verbs": ["create"]},
}


class User:
    """A user with a role of its own, which can be given more rights."""

    def __init__(self, world: World, name: str, *rules: str) -> None:
        self._world = world
        self.name = f"{world.api.namespace}-{name}"
        self._rbac("clusterroles", {"rules": [RULES[each] for each in rules]})
        self._rbac(
            "clusterrolebindings",
            {
                "roleRef": {
                    "apiGroup": "rbac.authorization.k8s.io",
                    "kind": "ClusterRole",
                    "name": self.name,
                },
                "subjects": [
                    {"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": self.name}
                ],
            },
        )

    @property
    def kubeconfig(self) -> Path:
        return self._world.plane.kubeconfig_for(self.name)

    def grant(self, *rules: str) -> None:
        self._world.api.request(
            "PATCH",
            f"apis/rbac.authorization.k8s.io/v1/clusterroles/{self.name}",
            {"rules": [RULES[each] for each in rules]},
            "application/merge-patch+json",
        )

    def _rbac(self, plural: str, body: JSON) -> None:
        path = f"apis/rbac.authorization.k8s.io/v1/{plural}"
        self._world.api.request("POST", path, {"metadata": {"name": self.name}, **body})


def test_rights_that_are_missing(world: World) -> None:
    """Each is named in the log, harms nothing else, and works as soon as it is given."""
    world.account_with_key()
    world.declare("support", "+79865784457")
    world.add("+79865784457", state="qridle")
    blind = User(world, "blind")
    mute = User(world, "mute", "follow", "secrets", "events")
    nobody = world.controller("--no-leader-elect", kubeconfig=world.plane.kubeconfig_for("nobody"))
    sees_nothing = world.controller("--no-leader-elect", kubeconfig=blind.kubeconfig)
    writes_nothing = world.controller("--no-leader-elect", kubeconfig=mute.kubeconfig)

    for controller in (nobody, sees_nothing):
        sentence = "The operator may not list and watch wazzupaccounts; grant it permission"
        eventually(says(controller, sentence), sentence, PATIENCE)
        status, body = controller.probe("/readyz")
        assert status == 503
        assert sentence in body
        assert len(body.splitlines()) == 1
        other = "may not list and watch wazzupchannels"
        eventually(says(controller, other), other, PATIENCE)
        assert controller.probe("/healthz")[0] == 200
    for kind in ("wazzupchannels", "wazzupaccounts"):
        sentence = f"The operator may not patch {kind}/status; grant it permission"
        eventually(says(writes_nothing, sentence), sentence, PATIENCE)
    assert [writes_nothing.probe(path)[0] for path in ("/healthz", "/readyz")] == [200, 200]
    assert world.status("support") == {"observedGeneration": -1}

    blind.grant("follow", "patch")
    eventually(lambda: sees_nothing.probe("/readyz")[0] == 200, "ready by itself", PATIENCE)
    world.wait_reason("support", "SecretNotFound", seconds=PATIENCE)
    message = world.condition("default", "Ready", "wazzupaccount")["message"]
    assert message == (
        'The operator may not read the Secret "wazzup". Grant its service account get on it.'
    )
    sentence = "Cannot post an Event"
    eventually(says(sees_nothing, sentence), sentence, PATIENCE)
    for controller in (nobody, sees_nothing):
        assert controller.stop() == 0

    tries = len(refused(world, mute))
    eventually(lambda: len(refused(world, mute)) > tries, "it goes on trying", PATIENCE)
    log = writes_nothing.log()
    assert log.count("wazzupchannels/status; grant") == 1, "said once, not with every try"
    mute.grant("follow", "patch", "secrets", "events")
    world.wait_reason("support", "ScanQRCode", seconds=PATIENCE)


def refused(world: World, user: User) -> list[JSON]:
    return [
        each
        for each in world.writes()
        if each["user"]["username"] == user.name and each["responseStatus"]["code"] == 403
    ]


def says(controller: Controller, sentence: str) -> Callable[[], bool]:
    return lambda: sentence in controller.log()
