"""Loads the webhook's certificate from mounted files and reloads it when they change."""

import asyncio
import logging
import ssl
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from cryptography import x509

log = logging.getLogger(__name__)

RELOAD_INTERVAL = 5.0
"""Seconds between two checks of the files' content. A mounted Secret changes by swapping a symbolic
link, which modification times and inotify do not show reliably."""

ReadObserver = Callable[[bool], None]
"""Called after each attempt to load a changed certificate, with whether it succeeded."""


class _NotLoaded(Exception):
    """The files cannot be loaded; the message says why."""


class CertificateLoader:
    """Serves tls.crt and tls.key of a directory through one long-lived `context`.

    New handshakes use the newest pair; open connections keep theirs. Each pair has its own
    SSLContext, which `context` switches to at the start of a handshake. Calling load_cert_chain on
    a context in use would drop the old key before it finds that the new one does not match, and
    would keep an old RSA certificate beside a new ECDSA one.
    """

    def __init__(self, directory: Path, observe: ReadObserver = lambda ok: None) -> None:
        self._files = (directory / "tls.crt", directory / "tls.key")
        self._observe = observe
        self._last_read: tuple[bytes, bytes] | str | None = None
        self._pair: ssl.SSLContext | None = None
        self.valid_from: datetime | None = None
        """When the validity of the pair that is served began, UTC; None before one is loaded."""

        self.expires: datetime | None = None
        """When the served pair expires, UTC; None until one is loaded."""

        self.context = _server_context()
        self.context.sni_callback = self._use_newest_pair

    @property
    def loaded(self) -> bool:
        """Whether a pair is loaded."""
        return self._pair is not None

    async def run(self) -> None:
        """Load the files now and whenever they change, until cancelled."""
        while True:
            self.load()
            await asyncio.sleep(RELOAD_INTERVAL)

    def load(self) -> None:
        """Load the files if they have changed. On an error, log it and keep the current pair."""
        files = self._read()
        if files == self._last_read:
            return
        self._last_read = files
        try:
            self._load(files)
        except _NotLoaded as error:
            self._observe(False)
            fallback = "keeping the current one" if self.loaded else "none is loaded yet"
            log.warning("Cannot load the certificate: %s; %s", error, fallback)
        else:
            self._observe(True)
            log.info("Loaded a certificate that expires at %s", self.expires)

    def _load(self, files: tuple[bytes, bytes] | str) -> None:
        if isinstance(files, str):
            raise _NotLoaded(files)
        if not files[0].strip():
            raise _NotLoaded("tls.crt is empty until all API servers trust its CA")
        context = _server_context()
        try:
            certificate = x509.load_pem_x509_certificate(files[0])
            # Without a password, OpenSSL would ask for one on the terminal if the key is encrypted.
            context.load_cert_chain(*self._files, password="")
        except (OSError, ValueError, x509.InvalidVersion) as error:
            reason = getattr(error, "reason", None) or "one cannot be parsed"
            raise _NotLoaded(f"tls.crt and tls.key are not a pair ({reason})") from error
        if self._read() != files:
            self._last_read = None
            raise _NotLoaded("the files are being replaced")
        self._pair = context
        self.valid_from = certificate.not_valid_before_utc
        self.expires = certificate.not_valid_after_utc

    def _read(self) -> tuple[bytes, bytes] | str:
        """Return the content of both files, or why they cannot be read."""
        certificate, key = self._files
        try:
            return certificate.read_bytes(), key.read_bytes()
        except OSError as error:
            return f"{error.filename}: {error.strerror}"

    def _use_newest_pair(
        self, connection: ssl.SSLObject, name: str | None, context: ssl.SSLContext
    ) -> None:
        # Called even if the client sends no server name. Before the first pair is loaded, the
        # handshake fails because the context has no certificate.
        if self._pair:
            connection.context = self._pair


def _server_context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context
