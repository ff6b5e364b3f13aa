"""HTTPS with a client certificate, to the servers of a control plane."""

import contextlib
import http.client
import ssl
from pathlib import Path


class Connection:
    """Requests to `port` of 127.0.0.1, verified against the certificate in `authority`.

    `certificate` and `key` are files with the client's own; all are PEM.
    """

    def __init__(self, port: int, *, authority: Path, certificate: Path, key: Path) -> None:
        self._port = port
        self._context = ssl.create_default_context(cafile=str(authority))
        # The default from Python 3.13 on: what passes here passes for every client of ours.
        self._context.verify_flags |= ssl.VERIFY_X509_STRICT
        self._context.load_cert_chain(certificate, key)

    def request(self, path: str, body: str | None = None) -> tuple[int, str]:
        """Status and body of the answer to a GET, or with a `body` (JSON) to a POST.

        Raises OSError or HTTPException when there is no answer within 5 seconds.
        """
        connection = http.client.HTTPSConnection(
            "127.0.0.1", self._port, context=self._context, timeout=5
        )
        with contextlib.closing(connection):
            headers = {"Content-Type": "application/json"}
            connection.request("GET" if body is None else "POST", path, body, headers)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
