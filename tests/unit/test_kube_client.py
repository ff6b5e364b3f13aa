"""KubeClient: paths, configuration, answers, limited clients."""

import asyncio
import json
from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from types import SimpleNamespace
from unittest.mock import AsyncMock, Mock

import pytest
import yaml
from aiohttp import web

from wazzup_operator.certificates.issue import dump_bundle, make_authority
from wazzup_operator.kube import access
from wazzup_operator.kube.client import KubeClient, path
from wazzup_operator.kube.errors import (
    ConfigurationMissing,
    ConnectionFailed,
    Deposed,
    Refused,
    TooLarge,
)
from wazzup_operator.kube.secrets import SecretMissing, SecretReader
from wazzup_operator.resources.account import SecretKeyRef

IMPOSSIBLE = ["", ".", "..", "/", "a/b", "../b", "../../victim/secrets/wazzup", "a/", "/a"]


class TestPath:
    """Names come from users."""

    @pytest.mark.parametrize(
        ("parts", "expected"),
        [
            (("v1", "secrets", "shop", "key"), "/api/v1/namespaces/shop/secrets/key"),
            (("wazzup.dev/v1", "wazzupchannels"), "/apis/wazzup.dev/v1/wazzupchannels"),
            (("a/v1", "bs", "shop"), "/apis/a/v1/namespaces/shop/bs"),
            (("a/v1", "bs", "shop", "x", "status"), "/apis/a/v1/namespaces/shop/bs/x/status"),
        ],
    )
    def test_resource(self, parts, expected):
        assert path(*parts) == expected

    @pytest.mark.parametrize("name", IMPOSSIBLE)
    @pytest.mark.parametrize("place", [("shop", "{}"), ("{}", "key")], ids=["name", "namespace"])
    def test_no_name_changes_the_path(self, name, place):
        with pytest.raises(Refused) as caught:
            path("v1", "secrets", *(each.format(name) for each in place))
        assert caught.value.status == 404
        assert repr(name) in caught.value.text

    @pytest.mark.parametrize(
        ("name", "quoted"),
        [
            ("a.b-c", "a.b-c"),
            ("...", "..."),
            ("a b", "a%20b"),
            ("a?watch=1", "a%3Fwatch%3D1"),
            ("a#b", "a%23b"),
            ("a&b", "a%26b"),
            ("%2e%2e", "%252e%252e"),
            ("a%2Fb", "a%252Fb"),
            ("a\\b", "a%5Cb"),
            ("a\nb", "a%0Ab"),
            ("ё", "%D1%91"),
        ],
    )
    def test_other_names_are_quoted(self, name, quoted):
        assert path("v1", "secrets", "shop", name) == f"/api/v1/namespaces/shop/secrets/{quoted}"
        assert path("v1", "secrets", name, "key") == f"/api/v1/namespaces/{quoted}/secrets/key"

    @pytest.mark.parametrize("name", [name for name in IMPOSSIBLE if name])
    async def test_a_secret_with_such_a_name_is_not_requested(self, name):
        client = Mock(get=AsyncMock())
        with pytest.raises(SecretMissing, match="does not exist"):
            await SecretReader(client).read_api_key("shop", SecretKeyRef(name=name))
        assert not client.get.called


def kubeconfig(**cluster):
    return yaml.safe_dump(
        {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "c",
            "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
            "clusters": [{"name": "c", "cluster": {"server": "https://127.0.0.1:1", **cluster}}],
            "users": [{"name": "u", "user": {"token": "t"}}],
        }
    )


@pytest.fixture
def outside(monkeypatch, tmp_path):
    """Run outside any cluster, with an empty home directory."""
    for name in ("KUBERNETES_SERVICE_HOST", "KUBERNETES_SERVICE_PORT", "KUBECONFIG"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    return monkeypatch


def observe(method, code, host, duration):
    """Ignore the request."""


async def connect_error():
    """Return the message of the ConfigurationMissing that `connect` raises."""
    with pytest.raises(ConfigurationMissing) as caught:
        await KubeClient.connect(observe)
    sentence = str(caught.value)
    assert "\n" not in sentence
    assert sentence.startswith("Cannot configure access to the API server: ")
    assert sentence.endswith("or set KUBECONFIG to the path of a valid kubeconfig.")
    return sentence


class TestConnect:
    """In a cluster or from a kubeconfig."""

    async def test_access_returns_server_and_token(self, outside, tmp_path):
        """KUBECONFIG comes first, even in a Pod."""
        file = tmp_path / "kubeconfig"
        file.write_text(kubeconfig())
        outside.setenv("KUBECONFIG", str(file))
        outside.setenv("KUBERNETES_SERVICE_HOST", "127.0.0.1")
        outside.setenv("KUBERNETES_SERVICE_PORT", "2")
        client = await KubeClient.connect(observe)
        configuration, authorization = await client.access()
        assert (configuration.host, authorization) == ("https://127.0.0.1:1", "Bearer t")
        await client.close()

    @pytest.mark.parametrize(
        "text",
        [
            pytest.param("", id="empty"),
            pytest.param("a: [b", id="no YAML"),
            pytest.param("just text", id="plain text"),
            pytest.param("- a", id="a list"),
            pytest.param("foo: bar", id="something else"),
            pytest.param(kubeconfig().replace("current-context: c", "a: b"), id="no context"),
            pytest.param(kubeconfig().replace("token: t", "client-key: /none"), id="no key file"),
            pytest.param(kubeconfig(**{"certificate-authority-data": "!"}), id="no base64"),
            pytest.param(kubeconfig(**{"certificate-authority-data": "AAAA"}), id="no certificate"),
            pytest.param(kubeconfig(**{"certificate-authority-data": "A"}), id="truncated base64"),
            pytest.param(kubeconfig().replace("user: u\n", "a: b\n"), id="no user"),
            pytest.param(
                kubeconfig(**{"certificate-authority": "/none"}), id="no such certificate"
            ),
            pytest.param("\x00\x01", id="binary"),
        ],
    )
    async def test_an_invalid_kubeconfig(self, outside, tmp_path, text):
        (tmp_path / "config").write_text(text)
        outside.setenv("KUBECONFIG", str(tmp_path / "config"))
        await connect_error()

    async def test_a_missing_kubeconfig(self, outside, tmp_path):
        outside.setenv("KUBECONFIG", str(tmp_path / "none"))
        assert f"no such file: {tmp_path}/none" in await connect_error()

    async def test_a_directory(self, outside, tmp_path):
        outside.setenv("KUBECONFIG", str(tmp_path))
        await connect_error()

    @pytest.mark.usefixtures("outside")
    async def test_no_kubeconfig_at_all(self):
        assert "no such file: ~/.kube/config" in await connect_error()

    async def test_in_a_cluster_no_proxy_is_used(self, outside, monkeypatch):
        def load(client_configuration):
            client_configuration.host = "https://10.0.0.1"

        monkeypatch.setattr("wazzup_operator.kube.access.load_incluster_config", load)
        outside.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
        outside.setenv("HTTPS_PROXY", "http://proxy.example.com:3128")
        client = await KubeClient.connect(observe)
        configuration, _ = await client.access()
        assert configuration.proxy is None
        await client.close()

    async def test_a_cluster_without_a_token(self, outside):
        outside.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
        outside.setenv("KUBERNETES_SERVICE_PORT", "443")
        await connect_error()

    @pytest.mark.parametrize("files", ["{0}/config", "{0}/none:{0}/config"])
    async def test_a_kubeconfig(self, outside, tmp_path, files):
        (tmp_path / "config").write_text(kubeconfig())
        outside.setenv("KUBECONFIG", files.format(tmp_path))
        client = await KubeClient.connect(observe)
        await client.close()


def with_user(user):
    """Return a kubeconfig with these fields of the user."""
    config = yaml.safe_load(kubeconfig())
    config["users"][0]["user"] = user
    return yaml.safe_dump(config)


def plugin(directory, *answers, exit_code=0):
    """Return a user with an exec plugin, which gives each answer in turn, then the last again."""
    for number, status in enumerate(answers):
        body = {"apiVersion": API, "kind": "ExecCredential", "status": status}
        (directory / f"answer-{number}").write_text(json.dumps(body))
    script = directory / "plugin"
    script.write_text(
        f"""#!/bin/sh
cd "{directory}"
cat "$(ls answer-* | head -n 1)"
[ "$(ls answer-* | wc -l)" = 1 ] || rm "$(ls answer-* | head -n 1)"
exit {exit_code}
"""
    )
    script.chmod(0o755)
    return {"exec": {"apiVersion": API, "command": str(script)}}


API = "client.authentication.k8s.io/v1"


class TestUser:
    """What a kubeconfig says of the user works, or is refused."""

    @pytest.fixture
    async def connect(self, outside, tmp_path):
        """Return a function that connects as a user."""
        connected = []

        async def connect(user):
            (tmp_path / "config").write_text(with_user(user))
            outside.setenv("KUBECONFIG", str(tmp_path / "config"))
            connected.append(await KubeClient.connect(observe))
            return connected[0]

        yield connect
        for client in connected:
            await client.close()

    @pytest.fixture
    def clock(self, monkeypatch):
        """A clock that only moves when told to."""
        clock = SimpleNamespace(now=1000.0)

        def pass_time(seconds):
            clock.now += seconds

        clock.pass_time = pass_time
        monkeypatch.setattr(access, "time", SimpleNamespace(monotonic=lambda: clock.now))
        return clock

    async def token(self, client):
        _, authorization = await client.access()
        return authorization

    @pytest.mark.parametrize("file", ["{0}/token", "token"], ids=["absolute", "relative"])
    async def test_a_token_file_is_read_again(self, connect, tmp_path, clock, file):
        (tmp_path / "token").write_text("one\n")
        client = await connect({"tokenFile": file.format(tmp_path)})
        assert await self.token(client) == "Bearer one"
        (tmp_path / "token").write_text("two\n")
        clock.pass_time(61)
        assert await self.token(client) == "Bearer two"

    @pytest.mark.parametrize("text", ["", None], ids=["empty", "missing"])
    async def test_a_token_file_that_is_being_replaced(self, connect, tmp_path, clock, text):
        (tmp_path / "token").write_text("one")
        client = await connect({"tokenFile": str(tmp_path / "token")})
        (tmp_path / "token").unlink()
        if text is not None:
            (tmp_path / "token").write_text(text)
        clock.pass_time(61)
        assert await self.token(client) == "Bearer one"
        (tmp_path / "token").write_text("two")
        clock.pass_time(61)
        assert await self.token(client) == "Bearer two"

    async def test_a_plugin_s_token_is_renewed(self, connect, tmp_path, monkeypatch):
        monkeypatch.setattr(access, "TOKEN_PERIOD", 0.01)
        answers = [
            {"token": "one", "expirationTimestamp": "2020-01-01T00:00:00Z"},
            # No plugin may run when the test ends.
            {"token": "two", "expirationTimestamp": "2100-01-01T00:00:00Z"},
        ]
        client = await connect(plugin(tmp_path, *answers))
        assert await self.token(client) in {"Bearer one", "Bearer two"}
        for _ in range(3000):
            if await self.token(client) == "Bearer two":
                return
            await asyncio.sleep(0.01)
        pytest.fail("it is not renewed")

    @pytest.mark.parametrize(
        ("status", "exit_code"),
        [
            ({"token": "t"}, 1),
            ({}, 0),
            ({"clientCertificateData": "c", "clientKeyData": "k"}, 0),
            ({"clientCertificateData": "c"}, 0),
        ],
        ids=["fails", "nothing", "certificate", "no key"],
    )
    async def test_a_plugin_without_a_token(self, connect, tmp_path, status, exit_code, caplog):
        with pytest.raises(ConfigurationMissing) as caught:
            await connect(plugin(tmp_path, status, exit_code=exit_code))
        assert f"the plugin {tmp_path}/plugin returned no token" in str(caught.value)
        caplog.clear()

    async def test_a_missing_plugin(self, connect, tmp_path, caplog):
        with pytest.raises(ConfigurationMissing, match="/none returned no token"):
            await connect({"exec": {"apiVersion": API, "command": f"{tmp_path}/none"}})
        assert "No such file or directory" in caplog.text
        caplog.clear()

    @pytest.mark.parametrize("field", ["as", "as-uid", "as-groups", "as-user-extra"])
    async def test_impersonation_is_refused(self, connect, field):
        with pytest.raises(ConfigurationMissing) as caught:
            await connect({"token": "t", field: ["somebody"]})
        assert f'the user has the field "{field}", which is not supported.' in str(caught.value)

    async def test_an_auth_provider_is_refused(self, connect):
        """Its token would expire."""
        user = {"auth-provider": {"name": "oidc", "config": {"id-token": "a.e30.c"}}}
        with pytest.raises(ConfigurationMissing, match='the field "auth-provider"'):
            await connect(user)

    async def test_no_credentials(self, connect):
        client = await connect({})
        assert await self.token(client) is None

    async def test_in_a_cluster_the_token_is_read_again(self, outside, tmp_path, monkeypatch):
        loader = "kubernetes.aio.config.incluster_config"
        token, authority = tmp_path / "token", tmp_path / "ca.crt"
        token.write_text("one")
        authority.write_bytes(dump_bundle([make_authority(datetime.now(UTC)).certificate]))
        monkeypatch.setattr(f"{loader}.SERVICE_TOKEN_FILENAME", str(token))
        monkeypatch.setattr(f"{loader}.SERVICE_CERT_FILENAME", str(authority))
        outside.setenv("KUBERNETES_SERVICE_HOST", "127.0.0.1")
        outside.setenv("KUBERNETES_SERVICE_PORT", "443")
        client = await KubeClient.connect(observe)
        assert await self.token(client) == "bearer one"
        token.write_text("two")
        later = datetime.now(UTC).replace(tzinfo=None) + timedelta(days=2)
        monkeypatch.setattr(f"{loader}.datetime", SimpleNamespace(datetime=Mock(now=lambda: later)))
        assert await self.token(client) == "bearer two"
        await client.close()


LEASE = {"kind": "Lease", "metadata": {"resourceVersion": "1"}}


@pytest.fixture
async def server(outside, tmp_path):
    """An API server that records requests; clear `answers` to leave them unanswered."""
    requests, answers = [], asyncio.Event()
    state = SimpleNamespace(requests=requests, answers=answers, answer=LEASE, status=200)
    answers.set()

    async def answer(request):
        requests.append(request.method)
        state.last = request
        await answers.wait()
        return web.json_response(state.answer, status=state.status)

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    (tmp_path / "config").write_text(kubeconfig(server=f"http://127.0.0.1:{port}"))
    outside.setenv("KUBECONFIG", str(tmp_path / "config"))
    yield state
    answers.set()
    await runner.cleanup()


@pytest.fixture
async def client(server):
    client = await KubeClient.connect(observe)
    yield client
    await client.close()


class TestNames:
    """How audit logs and managedFields name the operator."""

    @pytest.mark.parametrize("write", ["create", "merge_patch"])
    async def test_a_write_names_its_field_manager(self, server, client, write):
        await getattr(client, write)("/x", {"spec": {}})
        assert dict(server.last.query) == {"fieldManager": "wazzup-operator"}

    async def test_a_read_does_not(self, server, client):
        await client.get("/x", {"limit": "5"})
        assert dict(server.last.query) == {"limit": "5"}

    @pytest.mark.parametrize("read", [True, False])
    async def test_each_request_names_the_version(self, server, client, read):
        await (client.get("/x") if read else client.merge_patch("/x", {}))
        assert server.last.headers["User-Agent"] == f"wazzup-operator/{version('wazzup-operator')}"


class TestAnswers:
    """Answers that do not come from an API server."""

    @pytest.mark.parametrize("answer", [[], {}, None, 5, "x", {"kind": 5}, {"items": []}])
    async def test_a_read_fails(self, server, client, answer):
        server.answer = answer
        with pytest.raises(
            ConnectionFailed, match="the answer does not come from a Kubernetes API server"
        ):
            await client.get("/x")

    @pytest.mark.parametrize(
        "answer", [{"kind": "x"}, {"kind": "x", "metadata": []}, {**LEASE, "status": "odd"}]
    )
    async def test_a_write_fails(self, server, client, answer):
        server.answer = answer
        with pytest.raises(
            ConnectionFailed, match="the answer does not come from a Kubernetes API server"
        ):
            await client.merge_patch("/x", {"spec": {}})

    async def test_a_large_answer_fails(self, server, client):
        server.answer = {"kind": "x", "items": ["x" * 8 * 2**20]}
        with pytest.raises(TooLarge, match="more than 8 MiB"):
            await client.get("/x")

    async def test_a_refusal_s_text_is_cut(self, server, client):
        server.status, server.answer = 403, {"message": "no " * 1_000_000}
        with pytest.raises(Refused) as caught:
            await client.get("/x")
        assert str(caught.value) == "the API server refused (403)"
        assert caught.value.text == "no " * 333 + "n"


class TestWithin:
    """A client with an allowance."""

    async def test_it_sends_within_the_allowance(self, server, client):
        assert await client.within(lambda: 5.0).get("/x") == LEASE
        assert await client.get("/x") == LEASE
        assert server.requests == ["GET", "GET"]

    @pytest.mark.parametrize("allowance", [0.0, -1.0, float("-inf")])
    async def test_it_sends_nothing_after_the_allowance(self, server, client, allowance):
        limited = client.within(lambda: allowance)
        for request in (
            limited.get("/x"),
            limited.create("/x", {}),
            limited.merge_patch("/x", {}),
        ):
            with pytest.raises(Deposed):
                await request
        assert server.requests == []

    async def test_a_request_in_flight_ends_with_the_allowance(self, server, client):
        server.answers.clear()
        limited = client.within(lambda: 0.2)
        with pytest.raises(ConnectionFailed):
            await asyncio.wait_for(limited.merge_patch("/x", {}), 10)
        assert server.requests == ["PATCH"]

    async def test_each_request_checks_the_allowance(self, server, client):
        left = iter([1.0, 0.0])
        limited = client.within(lambda: next(left))
        await limited.get("/x")
        with pytest.raises(Deposed):
            await limited.get("/x")
        assert server.requests == ["GET"]

    async def test_the_allowance_is_checked_again_before_sending(self, server, client):
        """The process may be suspended after the first check."""
        left = iter([5.0])
        limited = client.within(lambda: next(left, 0.0))
        with pytest.raises(ConnectionFailed):
            await limited.merge_patch("/x", {"spec": {}})
        assert server.requests == []
        assert await client.merge_patch("/x", {"spec": {}}) == LEASE
