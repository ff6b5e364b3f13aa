"""Reserved ports of 127.0.0.1."""

import socket
import sys


class Port:
    """A free TCP port of 127.0.0.1, reserved until `release`.

    On Linux a bound socket that does not listen holds it, so that no other process gets it before
    our server binds it or while that server is restarted; the server has to bind it with
    SO_REUSEPORT. Elsewhere such a socket might be handed connections, so there the port is only
    very probably still free when the server binds it.
    """

    def __init__(self) -> None:
        self._holder = socket.socket()
        self._holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        self._holder.bind(("127.0.0.1", 0))
        self.number: int = self._holder.getsockname()[1]
        if sys.platform != "linux":
            self.release()

    def release(self) -> None:
        """Let others have the port."""
        self._holder.close()


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on right now."""
    port = Port()
    port.release()
    return port.number
