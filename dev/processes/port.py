"""Reserved ports of 127.0.0.1."""

import socket


class Port:
    """A free TCP port of 127.0.0.1, reserved until `release`.

    A bound socket that does not listen reserves the port, before the server binds it and while the
    server restarts. The server must bind it with SO_REUSEPORT.
    """

    def __init__(self) -> None:
        self._holder = socket.socket()
        self._holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        self._holder.bind(("127.0.0.1", 0))
        self.number: int = self._holder.getsockname()[1]

    def release(self) -> None:
        """Give up the port."""
        self._holder.close()


def free_port() -> int:
    """Return a port of 127.0.0.1 that is free now."""
    port = Port()
    port.release()
    return port.number
