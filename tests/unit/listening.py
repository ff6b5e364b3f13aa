"""The webhook's HTTP front without TLS, and a client for it."""

import asyncio
from contextlib import asynccontextmanager, suppress

import aiohttp

from wazzup_operator.admission.connections import Connections
from wazzup_operator.admission.requests import Requests
from wazzup_operator.settings import Address


class Client:
    """Sends requests to `port`."""

    def __init__(self, session, port, requests):
        self.session, self.port, self.requests = session, port, requests
        self.writers = []

    async def request(self, method, path, **options):
        """Return an answer whose body is read already."""
        async with self.session.request(method, path, **options) as answer:
            await answer.read()
            return answer

    async def post(self, path, **options):
        return await self.request("POST", path, **options)

    async def connect(self, sent=b""):
        """Open a connection that ends with the client, and send this."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        self.writers.append(writer)
        writer.write(sent)
        await writer.drain()
        return reader, writer

    async def close(self):
        for each in self.writers:
            each.close()
            with suppress(OSError):
                await each.wait_closed()


@asynccontextmanager
async def listening(respond):
    """Have requests answered by `respond`."""
    requests = Requests(respond)
    connections = Connections(requests.serve)
    port = await connections.listen(Address("127.0.0.1", 0), None)
    try:
        async with aiohttp.ClientSession(f"http://127.0.0.1:{port}") as session:
            client = Client(session, port, requests)
            yield client
    finally:
        await connections.close()
        await client.close()
