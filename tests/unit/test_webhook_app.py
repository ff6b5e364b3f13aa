"""How the webhook's process begins."""

import asyncio
import signal
from datetime import timedelta
from pathlib import Path

import pytest

from wazzup_operator.admission import app
from wazzup_operator.kube.errors import ConfigurationMissing, Refused
from wazzup_operator.settings import Address, WebhookSettings

ANY = Address("127.0.0.1", 0)


async def test_signals_are_taken_before_anything_that_may_last(monkeypatch):
    """PID 1 ignores the signals that it has not taken."""
    taken = []

    class Client:
        @staticmethod
        async def connect(observe):
            taken.extend(map(signal.getsignal, (signal.SIGTERM, signal.SIGINT)))
            raise ConfigurationMissing("no way")

    monkeypatch.setattr(app, "KubeClient", Client)
    monkeypatch.setattr(app, "_quieten_libraries", lambda: None)
    with pytest.raises(ConfigurationMissing):
        await app.run(WebhookSettings(ANY, Path("/nowhere"), ANY, ANY, timedelta(seconds=5)))
    loop = asyncio.get_running_loop()
    assert [loop.remove_signal_handler(each) for each in (signal.SIGTERM, signal.SIGINT)] == [
        *(True, True)
    ]
    assert len(taken) == 2
    assert not {signal.SIG_DFL, signal.default_int_handler} & {*taken}


class Server:
    """An API server that comes to know the group, its list of groups last."""

    def __init__(self):
        self.groups, self.resources = ["apps"], []

    async def get(self, path):
        if path == "/apis":
            return {"kind": "APIGroupList", "groups": [{"name": each} for each in self.groups]}
        if path == "/apis/wazzup.dev/v1" and self.resources:
            return {"resources": [{"name": each} for each in self.resources]}
        raise Refused(404, "not found")


@pytest.mark.looptime
async def test_kopf_is_not_begun_before_it_would_find_both_kinds(looptime, caplog):
    server = Server()
    waiting = asyncio.create_task(app._until_served(server))
    for change in (
        lambda: server.resources.append("wazzupchannels"),
        lambda: server.resources.append("wazzupaccounts"),
        lambda: server.groups.append("wazzup.dev"),
    ):
        await asyncio.sleep(5)
        assert not waiting.done()
        change()
    await waiting
    assert 15 <= looptime <= 16
    assert caplog.text.count("Reviews cannot be answered yet: the CRDs are not applied yet") == 1
