"""Loads the webhook's certificate from mounted files, and again when they change."""

import asyncio
import logging
import ssl
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from cryptography import x509

log = logging.getLogger(__name__)

RELOAD_INTERVAL = 5.0
"""Seconds between two looks at the files. They are compared by content: a mounted Secret changes by
a swapped symbolic link, which says little to modification times and inotify."""

ReadObserver = Callable[[bool], None]
"""Is told of each try to load a certificate that had changed whether it went well."""


class _NotLoaded(Exception):
    """The files are no certificate and its key; the message says why."""


class CertificateLoader:
    """Serves the pair tls.crt and tls.key of a directory through one long-lived `context`.

    A handshake takes the newest pair; connections keep the one they began with. Each pair gets an
    SSLContext of its own, to which `context` hands over at the beginning of a handshake:
    load_cert_chain on a context in use would drop the old key before it finds that the new one does
    not match, and would leave an old RSA certificate beside a new ECDSA one.
    """

    def __init__(self, directory: Path, observe: ReadObserver = lambda ok: None) -> None:
        self._files = (directory / "tls.crt", directory / "tls.key")
        self._observe = observe
        self._tried: tuple[bytes, bytes] | str | None = None
        self._pair: ssl.SSLContext | None = None
        self.expires: datetime | None = None
        """When the pair that is served expires, UTC; None before one is loaded."""

        self.context = _server_context()
        self.context.sni_callback = self._hand_over

    @property
    def loaded(self) -> bool:
        """Whether there is a pair to serve."""
        return self._pair is not None

    async def run(self) -> None:
        """Look at the files now and every few seconds, until cancelled."""
        while True:
            self.load()
            await asyncio.sleep(RELOAD_INTERVAL)

    def load(self) -> None:
        """Load the files if they have changed. On any error the old pair stays, and it is said."""
        files = self._read()
        if files == self._tried:
            return
        self._tried = files
        try:
            self._load(files)
        except _NotLoaded as error:
            self._observe(False)
            staying = "the one before stays in use" if self.loaded else "there is none yet"
            log.warning("No certificate was loaded: %s; %s", error, staying)
        else:
            self._observe(True)
            log.info("A certificate was loaded; it expires at %s", self.expires)

    def _load(self, files: tuple[bytes, bytes] | str) -> None:
        if isinstance(files, str):
            raise _NotLoaded(files)
        if not files[0].strip():
            raise _NotLoaded("tls.crt is empty, as it is while its CA is being made known")
        context = _server_context()
        try:
            expires = x509.load_pem_x509_certificate(files[0]).not_valid_after_utc
            # With a password, an encrypted key is an error and not a question on the terminal.
            context.load_cert_chain(*self._files, password="")
        except (OSError, ValueError, x509.InvalidVersion) as error:
            reason = getattr(error, "reason", None) or "one cannot be read"
            raise _NotLoaded(f"tls.crt and tls.key are no pair ({reason})") from error
        if self._read() != files:
            self._tried = None
            raise _NotLoaded("the files are changing right now")
        self._pair = context
        self.expires = expires

    def _read(self) -> tuple[bytes, bytes] | str:
        """Return the content of both files, or what stands against that."""
        certificate, key = self._files
        try:
            return certificate.read_bytes(), key.read_bytes()
        except OSError as error:
            return f"{error.filename}: {error.strerror}"

    def _hand_over(
        self, connection: ssl.SSLObject, name: str | None, context: ssl.SSLContext
    ) -> None:
        # Called for clients that send no server name, too. Before the first pair, the handshake
        # fails for want of a certificate.
        if self._pair:
            connection.context = self._pair


def _server_context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context
