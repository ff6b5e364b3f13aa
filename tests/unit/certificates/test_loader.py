"""Loading the mounted pair, and what clients of the webhook see."""

import asyncio
import ssl
from datetime import UTC, datetime

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from tests.unit.certificates.pairs import NAMES, NOW, VALIDITY, with_invalid_version
from wazzup_operator.certificates.issue import dump_bundle, make_authority, make_serving
from wazzup_operator.certificates.loader import CertificateLoader


def mount(directory, pair):
    """Write as the kubelet does: a new directory, then swap one symbolic link."""
    version = directory / f"..{id(pair)}"
    version.mkdir()
    (version / "tls.crt").write_bytes(dump_bundle([pair.certificate]))
    (version / "tls.key").write_bytes(pair.key_pem)
    link = directory / "..data_tmp"
    link.symlink_to(version.name)
    link.rename(directory / "..data")
    for name in ("tls.crt", "tls.key"):
        if not (directory / name).is_symlink():
            (directory / name).symlink_to(f"..data/{name}")


def serving(authority, now=None):
    return make_serving(authority, NAMES, now or datetime.now(UTC), VALIDITY)


@pytest.fixture
def fresh():
    return make_authority(datetime.now(UTC))


def trust(*authorities):
    context = ssl.create_default_context(
        cadata=dump_bundle([each.certificate for each in authorities]).decode()
    )
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    return context


class Server:
    """A TLS server that echoes lines, with the loader's context."""

    def __init__(self, context):
        self._context = context

    async def __aenter__(self):
        self._server = await asyncio.start_server(
            self._echo, "127.0.0.1", 0, ssl=self._context, ssl_handshake_timeout=5
        )
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_):
        self._server.close()

    async def _echo(self, reader, writer):
        while line := await reader.readline():
            writer.write(line)
        writer.close()

    async def connect(self, context, name="hook.wz.svc"):
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", self.port, ssl=context, server_hostname=name
        )
        return Client(reader, writer)


class Client:
    def __init__(self, reader, writer):
        self._reader, self._writer = reader, writer
        tls = writer.get_extra_info("ssl_object")
        self.version = tls.version()
        self.certificate = x509.load_der_x509_certificate(tls.getpeercert(binary_form=True))

    async def echoes(self):
        self._writer.write(b"hello\n")
        return await self._reader.readline() == b"hello\n"

    async def close(self):
        self._writer.close()
        await self._writer.wait_closed()


async def test_fifty_clients_see_no_error_across_a_renewal_and_a_rotation(tmp_path, fresh):
    other = make_authority(datetime.now(UTC))
    context = trust(fresh, other)
    pairs = [serving(fresh), serving(fresh), serving(other)]
    certificates = [pair.certificate for pair in pairs]
    mount(tmp_path, pairs[0])
    loader = CertificateLoader(tmp_path)
    loader.load()
    async with Server(loader.context) as server:
        idle = [await server.connect(context) for _ in range(50)]
        stop = asyncio.Event()

        async def hammer():
            seen = []
            while not stop.is_set():
                client = await server.connect(context)
                assert await client.echoes()
                seen.append(certificates.index(client.certificate))
                await client.close()
            return seen

        clients = [asyncio.create_task(hammer()) for _ in range(50)]
        for pair in pairs[1:]:
            for _ in range(3):
                probe = await server.connect(context)
                await probe.close()
            mount(tmp_path, pair)
            loader.load()
            probe = await server.connect(context)
            assert probe.certificate == pair.certificate
            await probe.close()
        stop.set()
        for seen in await asyncio.gather(*clients):
            assert seen == sorted(seen)
        assert all([await client.echoes() for client in idle])
        assert {client.certificate for client in idle} == {pairs[0].certificate}
        for client in idle:
            await client.close()
    assert loader.expires == pairs[-1].certificate.not_valid_after_utc
    assert loader.valid_from == pairs[-1].certificate.not_valid_before_utc


async def test_clients_without_a_server_name_get_the_newest_pair_too(tmp_path, fresh):
    mount(tmp_path, serving(fresh))
    loader = CertificateLoader(tmp_path)
    loader.load()
    newest = serving(fresh)
    mount(tmp_path, newest)
    loader.load()
    context = trust(fresh)
    context.check_hostname = False
    async with Server(loader.context) as server:
        for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
            context.maximum_version = version
            client = await server.connect(context, "")
            assert client.certificate == newest.certificate
            assert client.version == version.name.replace("_", ".")
            await client.close()


async def test_old_versions_of_tls_and_handshakes_before_the_first_pair_are_refused(
    tmp_path, fresh
):
    loader = CertificateLoader(tmp_path)
    loader.load()
    assert not loader.loaded
    assert loader.expires is None
    assert loader.context.minimum_version == ssl.TLSVersion.TLSv1_2
    async with Server(loader.context) as server:
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await server.connect(trust(fresh))
        mount(tmp_path, serving(fresh))
        loader.load()
        assert loader.loaded
        client = await server.connect(trust(fresh))
        assert await client.echoes()
        await client.close()


NOT_A_PAIR = "tls.crt and tls.key are not a pair"
BROKEN = {
    "empty": (b"", b"", "tls.crt is empty until all API servers trust its CA"),
    "garbage": (b"junk", b"junk", f"{NOT_A_PAIR} (one cannot be parsed)"),
    "half": (None, b"-----BEGIN PRIVATE KEY-----\nMII", f"{NOT_A_PAIR} ("),
    "mismatch": (None, make_authority(NOW).key_pem, f"{NOT_A_PAIR} (KEY_VALUES_MISMATCH)"),
    "no key": (None, b"", f"{NOT_A_PAIR} ("),
    "invalid version": (
        with_invalid_version(make_authority(NOW)),
        b"junk",
        f"{NOT_A_PAIR} (one cannot be parsed)",
    ),
}


@pytest.mark.parametrize(("certificate", "key", "sentence"), BROKEN.values(), ids=BROKEN)
async def test_a_broken_pair_is_logged_once_and_the_current_one_stays(
    tmp_path, fresh, caplog, certificate, key, sentence
):
    results = []
    first, later = serving(fresh), serving(fresh)
    mount(tmp_path, first)
    loader = CertificateLoader(tmp_path, results.append)
    loader.load()
    version = tmp_path / "..broken"
    version.mkdir()
    (version / "tls.crt").write_bytes(
        dump_bundle([later.certificate]) if certificate is None else certificate
    )
    (version / "tls.key").write_bytes(key)
    (tmp_path / "..data").unlink()
    (tmp_path / "..data").symlink_to("..broken")
    for _ in range(5):
        loader.load()
    assert results == [True, False]
    assert caplog.text.count("Cannot load the certificate") == 1
    assert f"Cannot load the certificate: {sentence}" in caplog.text
    assert "; keeping the current one\n" in caplog.text
    assert "PRIVATE" not in caplog.text
    async with Server(loader.context) as server:
        client = await server.connect(trust(fresh))
        assert client.certificate == first.certificate
        await client.close()
    mount(tmp_path, later)
    loader.load()
    assert results == [True, False, True]
    assert loader.expires == later.certificate.not_valid_after_utc


async def test_an_encrypted_key_is_refused_without_a_prompt(tmp_path, fresh):
    pair = serving(fresh)
    (tmp_path / "tls.crt").write_bytes(dump_bundle([pair.certificate]))
    (tmp_path / "tls.key").write_bytes(
        pair.key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"secret"),
        )
    )
    loader = CertificateLoader(tmp_path)
    loader.load()
    assert not loader.loaded


async def test_removed_files_leave_the_current_pair(tmp_path, fresh, caplog):
    results = []
    mount(tmp_path, serving(fresh))
    loader = CertificateLoader(tmp_path, results.append)
    loader.load()
    (tmp_path / "..data").unlink()
    loader.load()
    loader.load()
    assert loader.loaded
    assert results == [True, False]
    assert "/tls.crt: No such file or directory; keeping the current one\n" in caplog.text


async def test_files_replaced_while_loading_are_loaded_at_the_next_check(
    tmp_path, fresh, monkeypatch, caplog
):
    mount(tmp_path, serving(fresh))
    later = serving(fresh)
    load = ssl.SSLContext.load_cert_chain

    def slow(*arguments, **options):
        load(*arguments, **options)
        monkeypatch.undo()
        mount(tmp_path, later)

    loader = CertificateLoader(tmp_path)
    monkeypatch.setattr(ssl.SSLContext, "load_cert_chain", slow)
    loader.load()
    assert not loader.loaded
    assert "certificate: the files are being replaced; none is loaded yet\n" in caplog.text
    loader.load()
    assert loader.loaded
    assert loader.expires == later.certificate.not_valid_after_utc


@pytest.mark.looptime
async def test_run_checks_the_files_every_few_seconds(tmp_path, fresh, looptime):
    loader = CertificateLoader(tmp_path)
    task = asyncio.create_task(loader.run())
    await asyncio.sleep(1)
    assert not loader.loaded
    mount(tmp_path, serving(fresh))
    await asyncio.sleep(6)
    assert loader.loaded
    task.cancel()
