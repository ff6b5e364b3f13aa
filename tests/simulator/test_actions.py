"""The table of actions and the service's rules, without a server."""

import pytest

from wazzup_simulator.actions import ACCOUNT_ACTIONS, ACTIONS
from wazzup_simulator.refusals import ConflictError, InvalidError, NotFoundError
from wazzup_simulator.state import Channel, NewChannel, Service

NUMBER = "79865784457"


@pytest.fixture
def service() -> Service:
    ticks = iter(range(1, 10_000))
    service = Service(clock=lambda: float(next(ticks)))
    service.add_account("acme", ["k1"])
    return service


def add(service: Service, state: str | None = None, **wanted: object) -> Channel:
    new = NewChannel(**{"phone": NUMBER, "state": state, **wanted})
    return service.add_channels("acme", [new])[0]


@pytest.mark.parametrize(
    ("transport", "before", "action", "after"),
    [
        ("whatsapp", "qridle", "scan", "active"),
        ("whatsapp", "qridle", "scan-slowly", "init"),
        ("whatsapp", "init", "come-up", "active"),
        ("whatsapp", "active", "restart", "init"),
        ("whatsapp", "active", "logout", "qridle"),
        ("whatsapp", "active", "lose-phone", "phoneUnavailable"),
        ("whatsapp", "phoneUnavailable", "find-phone", "active"),
        ("whatsapp", "active", "open-elsewhere", "openelsewhere"),
        ("whatsapp", "openelsewhere", "enable-here", "active"),
        ("whatsapp", "active", "untick", "disabled"),
        ("whatsapp", "disabled", "tick", "qridle"),
        ("whatsapp", "active", "require-password", "waitForPassword"),
        ("whatsapp", "waitForPassword", "enter-password", "active"),
        ("whatsapp", "active", "deauthorize", "unauthorized"),
        ("instagram", "unauthorized", "authorize", "active"),
        ("wapi", "init", "ask-meta", "onModeration"),
        ("wapi", "onModeration", "meta-accepts", "active"),
        ("wapi", "onModeration", "meta-rejects", "rejected"),
        ("wapi", "rejected", "ask-meta", "onModeration"),
        ("wapi", "active", "meta-blocks", "blocked"),
    ],
)
def test_action(service: Service, transport: str, before: str, action: str, after: str) -> None:
    channel = add(service, before, transport=transport)
    service.act("acme", channel.id, action)
    assert channel.row["state"] == after


@pytest.mark.parametrize(
    ("transport", "before", "action"),
    [
        ("wapi", "init", "scan"),
        ("whatsapp", "active", "come-up"),
        ("whatsapp", "qridle", "lose-phone"),
        ("whatsapp", "qridle", "open-elsewhere"),
        ("whatsapp", "active", "enter-password"),
        ("whatsapp", "active", "ask-meta"),
        ("whatsapp", "active", "meta-blocks"),
    ],
)
def test_action_is_refused(service: Service, transport: str, before: str, action: str) -> None:
    channel = add(service, before, transport=transport)
    with pytest.raises(ConflictError):
        service.act("acme", channel.id, action)
    assert channel.row["state"] == before


def test_every_action_is_tested() -> None:
    assert set(ACTIONS) == {
        "scan", "scan-slowly", "logout", "lose-phone", "find-phone", "open-elsewhere",
        "untick", "tick", "enable-here", "authorize", "enter-password", "ask-meta",
        "restart", "come-up", "deauthorize", "require-password",
        "meta-accepts", "meta-rejects", "meta-blocks",
    }  # fmt: skip
    assert set(ACCOUNT_ACTIONS) == {"run-out-of-money", "pay"}


def test_unknown_action_is_refused_with_the_known_ones(service: Service) -> None:
    channel = add(service)
    with pytest.raises(NotFoundError, match=r"Unknown action dance\. Actions: scan, "):
        service.act("acme", channel.id, "dance")


@pytest.mark.parametrize(
    ("transport", "state"),
    [
        ("whatsapp", "qridle"),
        ("wapi", "init"),
        ("telegram", "active"),
        ("instagram", "unauthorized"),
    ],
)
def test_first_state(service: Service, transport: str, state: str) -> None:
    assert add(service, transport=transport).row["state"] == state


def test_scan_with_another_phone(service: Service) -> None:
    channel = add(service)
    service.act("acme", channel.id, "scan", phone="79000000000")
    assert channel.row == {
        "channelId": channel.id,
        "transport": "whatsapp",
        "plainId": NUMBER,
        "name": NUMBER,
        "state": "foreignphone",
    }
    service.act("acme", channel.id, "scan", phone=NUMBER)
    assert channel.row["state"] == "active"


def test_only_a_scan_takes_a_phone(service: Service) -> None:
    channel = add(service)
    with pytest.raises(InvalidError):
        service.act("acme", channel.id, "logout", phone=NUMBER)


def test_disabled_channel_changes_state_in_the_background(service: Service) -> None:
    channel = add(service, "active")
    service.act("acme", channel.id, "untick")
    service.act("acme", channel.id, "logout")
    assert channel.row["state"] == "disabled"
    service.act("acme", channel.id, "tick")
    assert channel.row["state"] == "qridle"


def test_unpaid_and_paid_for_every_channel(service: Service) -> None:
    working, waiting, off = (
        add(service, state, phone=phone)
        for phone, state in (("1", "active"), ("2", "qridle"), ("3", "disabled"))
    )
    service.act_on_account("acme", "run-out-of-money")
    assert [found.row["state"] for found in (working, waiting, off)] == [
        "notEnoughMoney",
        "notEnoughMoney",
        "disabled",
    ]
    service.act("acme", off.id, "tick")
    assert off.row["state"] == "notEnoughMoney"
    service.act_on_account("acme", "pay")
    assert [found.row["state"] for found in (working, waiting, off)] == [
        "active",
        "qridle",
        "qridle",
    ]


@pytest.mark.parametrize("state", ["OPENELSEWHERE", "banana", ""])
def test_raw_state_is_listed_verbatim(service: Service, state: str) -> None:
    channel = add(service, "disabled")
    service.patch_channel("acme", channel.id, {"state": state})
    assert channel.row["state"] == state


def test_paying_undoes_a_raw_unpaid_state(service: Service) -> None:
    channel = add(service, "active")
    service.patch_channel("acme", channel.id, {"state": "notEnoughMoney"})
    assert channel.row["state"] == "notEnoughMoney"
    service.act_on_account("acme", "pay")
    assert channel.row["state"] == "active"


def test_raw_fields_are_merged_and_removed(service: Service) -> None:
    channel = add(service)
    service.patch_channel(
        "acme",
        channel.id,
        {"channelId": None, "plainId": "", "name": None, "state": None, "tier": "TIER_1K"},
    )
    assert channel.row == {"transport": "whatsapp", "plainId": "", "tier": "TIER_1K"}
    assert service.channel("acme", channel.id) is channel


@pytest.mark.parametrize("state", ["active", "qridle", "disabled"])
def test_number_added_again_gets_its_old_channel(service: Service, state: str) -> None:
    first = add(service, state, name="Sales")
    again = add(service)
    assert again is first
    assert again.row["name"] == "Sales"


def test_number_added_again_is_enabled(service: Service) -> None:
    channel = add(service, "active")
    service.act("acme", channel.id, "untick")
    add(service, name="Support")
    assert (channel.row["state"], channel.row["name"]) == ("active", "Support")


def test_number_has_one_channel_per_transport(service: Service) -> None:
    assert add(service).id != add(service, transport="wapi").id


def test_duplicate_is_added_on_request(service: Service) -> None:
    first, second = add(service), add(service, duplicate=True)
    assert first.id != second.id
    assert add(service) is first


def test_number_twice_in_one_request_is_one_channel(service: Service) -> None:
    one, other = service.add_channels("acme", [NewChannel(NUMBER), NewChannel(NUMBER)])
    assert one is other


def test_number_in_two_accounts_is_two_channels(service: Service) -> None:
    service.add_account("other")
    other = service.add_channels("other", [NewChannel(NUMBER)])[0]
    assert add(service).id != other.id


def test_deleted_number_gets_a_new_channel(service: Service) -> None:
    first = add(service)
    service.delete_channel("acme", first.id)
    assert service.account("acme").channels == {}
    assert add(service).id != first.id


def test_channel_ids_are_unique(service: Service) -> None:
    service.add_account("other")
    service.add_channels("other", [NewChannel("1", channel_id="c1")])
    with pytest.raises(ConflictError):
        add(service, channel_id="c1")
    add(service, channel_id="c2")
    with pytest.raises(ConflictError):
        add(service, channel_id="c3")


@pytest.mark.parametrize(
    "wanted",
    [{"phone": "+7986"}, {"phone": "\uff17\uff19"}, {"phone": "79", "transport": "pigeon"}],
)
def test_invalid_channels(wanted: dict[str, str]) -> None:
    with pytest.raises(InvalidError):
        NewChannel(**wanted)


def test_history_has_exactly_the_changes_of_state(service: Service) -> None:
    channel = add(service, channel_id="c1")
    service.act("acme", channel.id, "scan")
    service.act("acme", channel.id, "scan")
    service.patch_channel("acme", channel.id, {"name": "Sales"})
    service.act_on_account("acme", "run-out-of-money")
    service.patch_channel("acme", channel.id, {"state": "init"})
    service.delete_channel("acme", channel.id)
    assert [(change.time, change.channel, change.state) for change in service.history] == [
        (1, "c1", "qridle"),
        (2, "c1", "active"),
        (3, "c1", "notEnoughMoney"),
        (4, "c1", "init"),
        (5, "c1", None),
    ]


def test_default_account_ids_are_numbered() -> None:
    service = Service()
    assert [service.add_account().id for _ in range(3)] == ["default", "default-2", "default-3"]


@pytest.mark.parametrize("keys", [["k1"], ["new", "new"]])
def test_keys_are_unique(service: Service, keys: list[str]) -> None:
    with pytest.raises(ConflictError):
        service.add_account("other", keys)
    assert list(service.accounts) == ["acme"]


@pytest.mark.parametrize("key", ["two words", "ключ", "line\n"])
def test_key_invalid_in_a_header(service: Service, key: str) -> None:
    with pytest.raises(InvalidError):
        service.add_account("other", [key])
