"""The startup of the webhook process."""

import asyncio
import signal
from datetime import timedelta
from pathlib import Path

import pytest

from wazzup_operator.admission import app
from wazzup_operator.kube.errors import ConfigurationMissing, Refused
from wazzup_operator.settings import Address, WebhookSettings

ANY = Address("127.0.0.1", 0)


async def test_signals_are_handled_before_the_first_slow_call(monkeypatch):
    """PID 1 ignores signals that it does not handle."""
    handlers = []

    class Client:
        @staticmethod
        async def connect(observe):
            handlers.extend(map(signal.getsignal, (signal.SIGTERM, signal.SIGINT)))
            raise ConfigurationMissing("no kubeconfig")

    monkeypatch.setattr(app, "KubeClient", Client)
    monkeypatch.setattr(app, "_quieten_kopf", lambda: None)
    with pytest.raises(ConfigurationMissing):
        await app.run(WebhookSettings(ANY, Path("/nowhere"), ANY, ANY, timedelta(seconds=5)))
    loop = asyncio.get_running_loop()
    assert [loop.remove_signal_handler(each) for each in (signal.SIGTERM, signal.SIGINT)] == [
        *(True, True)
    ]
    assert len(handlers) == 2
    assert not {signal.SIG_DFL, signal.default_int_handler} & {*handlers}


class Server:
    """An API server that starts to serve the CRDs; its list of groups lags behind."""

    def __init__(self):
        self.groups, self.resources = ["apps"], []

    async def get(self, path):
        if path == "/apis":
            return {"kind": "APIGroupList", "groups": [{"name": each} for each in self.groups]}
        if path == "/apis/wazzup.dev/v1" and self.resources:
            return {"resources": [{"name": each} for each in self.resources]}
        raise Refused(404, "not found")


@pytest.mark.looptime
async def test_kopf_starts_only_once_both_kinds_are_served(looptime, caplog):
    server = Server()
    waiting = asyncio.create_task(app._wait_for_crds(server))
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
    assert (
        caplog.text.count("Cannot answer reviews yet: the API server does not serve both kinds")
        == 1
    )
