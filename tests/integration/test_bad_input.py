"""Missing accounts, unusable API keys, and an operator without permissions."""

import base64
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
    """An unusable API key, and the reason and message that it causes."""

    name: str
    reason: str
    message: str
    """Words of the account's Ready condition."""

    secret: dict[str, str] | dict[str, bytes] | None
    """The Secret's stringData, or data as bytes; None: the Secret does not exist."""

    forbidden: bool = False
    """Whether Wazzup forbids the key to list channels."""


TROUBLES = [
    Trouble("no-secret", "SecretNotFound", '"no-secret" does not exist', None),
    Trouble(
        "other-key",
        "SecretNotFound",
        'has no key "apiKey", only "api-key", "token". Put',
        {"token": "key-nobody", "api-key": "key-nobody"},
    ),
    Trouble("no-key", "SecretNotFound", 'has no key "apiKey", nor any other. Put', {}),
    Trouble("empty", "CredentialsInvalid", "is empty", {"apiKey": ""}),
    Trouble("blank", "CredentialsInvalid", "is empty", {"apiKey": " \n"}),
    Trouble("broken", "CredentialsInvalid", "a line break", {"apiKey": "key-of\nbroken"}),
    Trouble(
        "utf-16",
        "CredentialsInvalid",
        "is UTF-16 text, as PowerShell writes it. Store",
        {"apiKey": "key-nobody".encode("utf-16")},
    ),
    Trouble("wrong", "CredentialsInvalid", "API key (401). Put", {"apiKey": "key-nobody"}),
    Trouble(
        "quoted",
        "CredentialsInvalid",
        'API key (401), which contains " and is probably not a key. Put',
        {"apiKey": '"key-nobody"'},
    ),
    Trouble("no-right", "CredentialsInvalid", "(403)", None, forbidden=True),
]
"""Each account and its Secret have the same name."""


def base64_of(value: str | bytes) -> str:
    return base64.b64encode(value.encode() if isinstance(value, str) else value).decode()


class Accounts:
    """An account in Wazzup with two active channels, and a WazzupAccount, for each trouble."""

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
        """Replace the Secret, or forbid the key; request a listing, which reads the Secret."""
        api, name = self.world.api, trouble.name
        if api.exists("secret", name):
            api.delete("secret", name)
        if trouble.forbidden:
            self.world.simulator.change_account(self.id(name), forbidden=True)
            api.create(secret(self.key(name), name))
        elif trouble.secret is not None:
            data = {key: base64_of(value) for key, value in trouble.secret.items()}
            api.create({**secret("", name), "stringData": {}, "data": data})
        if api.exists("wazzupaccount", name):
            api.request_listing(name)

    def repair(self, trouble: Trouble) -> None:
        api, name = self.world.api, trouble.name
        if trouble.forbidden:
            self.world.simulator.change_account(self.id(name), forbidden=False)
        elif trouble.secret is None:
            api.create(secret(self.key(name), name))
        else:
            # What editors and copied text leave around a key is not part of it.
            key = f"\ufeff\u00a0{self.key(name)}\u200b \n"
            api.patch("secret", name, {"stringData": {"apiKey": key}})

    def reads(self) -> Counter[str]:
        """Count the operator's reads of each Secret."""
        reads = self.world.by_operator(self.world.writes("get", "secrets"))
        return Counter(each["objectRef"]["name"] for each in reads)

    def wait_read_again(self) -> None:
        """Wait until the operator has read every Secret once more."""
        before = self.reads()

        def read() -> bool:
            now = self.reads()
            return all(now[each.name] > before[each.name] for each in TROUBLES)

        eventually(read, "every Secret is read again", PATIENCE)


def test_an_unusable_api_key(world: World) -> None:
    world.account_with_key()
    world.declare("healthy", "+79865789901")
    world.add("+79865789901", state="active")
    accounts = Accounts(world)
    for number, trouble in enumerate(TROUBLES):
        accounts.break_(trouble)
        world.api.create(account(trouble.name, trouble.name))
        accounts.declare(number, 0)
    controller = world.controller()

    # Channels never listed get the reason at once.
    world.wait_reason("healthy", "Active", seconds=PATIENCE)
    healthy = world.api.get("wazzupchannel", "healthy")
    for trouble in TROUBLES:
        check_account(world, trouble)
        check_never_listed(world, trouble, f"{trouble.name}-0")

    # They recover by themselves. The healthy account's key is rotated meanwhile.
    for trouble in TROUBLES:
        accounts.repair(trouble)
    rotate(world)
    for trouble in TROUBLES:
        world.wait_reason(f"{trouble.name}-0", "Active", seconds=PATIENCE)
        world.wait_reason(trouble.name, "UpToDate", "wazzupaccount")
        assert world.condition(f"{trouble.name}-0", "Synced")["status"] == "True"

    # Broken again: known channels keep their status, new ones get the reason.
    known = {f"{t.name}-0": world.api.get("wazzupchannel", f"{t.name}-0") for t in TROUBLES}
    for trouble in TROUBLES:
        accounts.break_(trouble)
    for number, trouble in enumerate(TROUBLES):
        check_account(world, trouble)
        accounts.declare(number, 1)
        check_never_listed(world, trouble, f"{trouble.name}-1")
    accounts.wait_read_again()
    check_events(world)
    for name, body in {**known, "healthy": healthy}.items():
        assert world.api.get("wazzupchannel", name) == body, "an outage was written"
    assert len([each for each in world.writes() if each["objectRef"]["name"] == "healthy"]) == 1
    for trouble in TROUBLES:
        assert accounts.key(trouble.name) not in controller.log() + controller.metrics()


def check_never_listed(world: World, trouble: Trouble, name: str) -> None:
    status = world.wait_reason(name, trouble.reason)
    assert status["state"] == "Unknown"
    assert "channelID" not in status
    assert "action" not in status
    assert world.condition(name, "Ready")["status"] == "Unknown"
    assert world.condition(name, "Synced")["status"] == "False"


def rotate(world: World) -> None:
    """Put a new key into the Secret; revoke the old one once the new one is used."""
    new = f"{world.key}-new"
    world.simulator.change_account(world.account, keys=[world.key, new])
    world.api.patch("secret", "wazzup", {"stringData": {"apiKey": new}})
    mark = hashlib.sha256(new.encode()).hexdigest()[:8]
    eventually(
        lambda: world.simulator.requests(world.account).requests[-1].key == mark,
        "the new key is used",
        60,
    )
    world.simulator.change_account(world.account, keys=[new])


def check_account(world: World, trouble: Trouble) -> None:
    world.wait_reason(trouble.name, trouble.reason, "wazzupaccount", PATIENCE)
    ready = world.condition(trouble.name, "Ready", "wazzupaccount")
    assert ready["status"] == "False"
    assert trouble.message in ready["message"], ready
    assert ready["message"].endswith(".")
    assert "Secret" in ready["message"], "it does not name the Secret"


def check_events(world: World) -> None:
    """Check for one Event per outage and recovery, on the accounts only."""
    expected = {("WazzupAccount", each.name, "Warning", each.reason): 2 for each in TROUBLES}
    expected |= {("WazzupAccount", each.name, "Normal", "UpToDate"): 1 for each in TROUBLES}
    eventually(lambda: count_events(world) == expected, "exactly these Events")


def count_events(world: World) -> dict[tuple[str, str, str, str], int]:
    """Count Events by kind and name of the object, type and reason."""
    return dict(
        Counter(
            (each["regarding"]["kind"], each["regarding"]["name"], each["type"], each["reason"])
            for each in world.api.list("event")
        )
    )


def test_an_account_created_deleted_and_created_again(world: World) -> None:
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
    assert controller.count("wazzup_channels", account="", state="Unknown") == 1
    assert world.requests() == 0

    world.api.create(account())
    status = world.wait_reason("support", "Active", seconds=PATIENCE)
    assert status["channelID"] == listed.id

    world.api.delete("wazzupaccount", "default")
    status = world.wait_reason("support", "AccountNotFound", seconds=PATIENCE)
    assert status["state"] == "Unknown"
    assert status["channelID"] == listed.id
    assert world.condition("support", "Synced")["status"] == "False"

    world.api.create(account())
    status = world.wait_reason("support", "Active", seconds=PATIENCE)
    assert status["channelID"] == listed.id
    assert count_events(world) == {}


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
    """A user with its own role, which can be granted more permissions."""

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


def test_missing_permissions(world: World) -> None:
    """The log names each one, and the operator works as soon as it is granted."""
    world.account_with_key()
    world.declare("support", "+79865784457")
    world.add("+79865784457", state="qridle")
    blind = User(world, "blind")
    mute = User(world, "mute", "follow", "secrets", "events")
    nobody = world.controller("--no-leader-elect", kubeconfig=world.plane.kubeconfig_for("nobody"))
    reads_nothing = world.controller("--no-leader-elect", kubeconfig=blind.kubeconfig)
    writes_nothing = world.controller("--no-leader-elect", kubeconfig=mute.kubeconfig)

    for controller in (nobody, reads_nothing):
        where = f"in namespace {world.api.namespace}"
        sentence = f"The operator may not list and watch wazzupaccounts {where}; grant"
        eventually(logs(controller, sentence), sentence, PATIENCE)
        status, body = controller.probe("/readyz")
        assert status == 503
        assert sentence in body
        assert len(body.splitlines()) == 1
        other = "may not list and watch wazzupchannels"
        eventually(logs(controller, other), other, PATIENCE)
        assert controller.probe("/healthz")[0] == 200
    for kind in ("wazzupchannels", "wazzupaccounts"):
        sentence = f"the API server refused (403); grant the operator patch on {kind}/status there"
        eventually(logs(writes_nothing, sentence), sentence, PATIENCE)
    assert [writes_nothing.probe(path)[0] for path in ("/healthz", "/readyz")] == [200, 200]
    assert world.status("support") == {"observedGeneration": -1}

    blind.grant("follow", "patch")
    eventually(lambda: reads_nothing.probe("/readyz")[0] == 200, "it becomes ready", PATIENCE)
    world.wait_reason("support", "SecretNotFound", seconds=PATIENCE)
    status = world.wait_reason("default", "SecretNotFound", "wazzupaccount", PATIENCE)
    (message,) = [each["message"] for each in status["conditions"] if each["type"] == "Ready"]
    assert message == (
        'The operator may not read the Secret "wazzup". Add "wazzup" to the chart value'
        " rbac.secretNames, or allow the controller's service account to get it."
    )
    sentence = (
        f"Cannot post an Event {where}: the API server refused (403); grant the operator create"
    )
    eventually(logs(reads_nothing, sentence), sentence, PATIENCE)
    for controller in (nobody, reads_nothing):
        assert controller.stop() == 0

    attempts = len(refused(world, mute))
    eventually(lambda: len(refused(world, mute)) > attempts, "it retries", PATIENCE)
    once = "grant the operator patch on wazzupchannels/status"
    assert writes_nothing.log().count(once) == 1, "logged more than once"
    mute.grant("follow", "patch", "secrets", "events")
    world.wait_reason("support", "ScanQRCode", seconds=PATIENCE)


def refused(world: World, user: User) -> list[JSON]:
    return [
        each
        for each in world.writes()
        if each["user"]["username"] == user.name and each["responseStatus"]["code"] == 403
    ]


def logs(controller: Controller, sentence: str) -> Callable[[], bool]:
    return lambda: sentence in controller.log()
