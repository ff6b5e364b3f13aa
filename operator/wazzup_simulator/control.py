"""The control interface under /_sim: JSON, without a key."""

import json
from collections.abc import Awaitable, Callable

from aiohttp import web

from wazzup_simulator.faults import Fault, Faults
from wazzup_simulator.fields import Fields
from wazzup_simulator.record import Record
from wazzup_simulator.refusals import ConflictError, InvalidError, NotFoundError, RefusalError
from wazzup_simulator.state import Account, Channel, NewChannel, Service

STATUSES: dict[type[RefusalError], int] = {
    NotFoundError: 404,
    ConflictError: 409,
    InvalidError: 422,
}

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Control:
    """The routes under /_sim."""

    def __init__(self, service: Service, faults: Faults, record: Record) -> None:
        self._service = service
        self._faults = faults
        self._record = record

    def app(self) -> web.Application:
        """Return the application to mount under /_sim."""
        app = web.Application(middlewares=[_errors_as_json])
        channels = "/accounts/{account}/channels"
        app.add_routes(
            [
                web.get("/accounts", self._accounts),
                web.post("/accounts", self._add_account),
                web.patch("/accounts/{account}", self._change_account),
                web.get(channels, self._channels),
                web.post(channels, self._add_channels),
                web.patch(channels + "/{channel}", self._patch_channel),
                web.delete(channels + "/{channel}", self._delete_channel),
                web.post(channels + "/{channel}/{action}", self._act),
                web.post("/accounts/{account}/{action}", self._act_on_account),
                web.get("/faults", self._list_faults),
                web.post("/faults", self._add_fault),
                web.delete("/faults", self._clear_faults),
                web.get("/requests", self._requests),
                web.delete("/requests", self._clear_requests),
                web.get("/history", self._history),
            ]
        )
        return app

    async def _accounts(self, request: web.Request) -> web.Response:
        return web.json_response([_account(found) for found in self._service.accounts.values()])

    async def _add_account(self, request: web.Request) -> web.Response:
        fields = Fields(await _object(request))
        account_id = fields.text("id")
        keys, sidecar_keys = fields.texts("keys") or [], fields.texts("sidecarKeys") or []
        forbidden = fields.flag("forbidden") or False
        fields.done()
        account = self._service.add_account(account_id, keys, sidecar_keys, forbidden)
        return web.json_response(_account(account), status=201)

    async def _change_account(self, request: web.Request) -> web.Response:
        account = self._service.account(request.match_info["account"])
        fields = Fields(await _object(request))
        keys, sidecar_keys = fields.texts("keys"), fields.texts("sidecarKeys")
        forbidden = fields.flag("forbidden")
        fields.done()
        self._service.set_keys(
            account,
            account.keys if keys is None else keys,
            account.sidecar_keys if sidecar_keys is None else sidecar_keys,
        )
        if forbidden is not None:
            account.forbidden = forbidden
        return web.json_response(_account(account))

    async def _channels(self, request: web.Request) -> web.Response:
        account = self._service.account(request.match_info["account"])
        return web.json_response(
            [_channel(account.id, found) for found in account.channels.values()]
        )

    async def _add_channels(self, request: web.Request) -> web.Response:
        """Add one channel or a list. If one is refused, those before it stay added."""
        account = request.match_info["account"]
        body = await _json(request)
        wanted = [new_channel(item) for item in (body if isinstance(body, list) else [body])]
        added = [_channel(account, new) for new in self._service.add_channels(account, wanted)]
        return web.json_response(added if isinstance(body, list) else added[0], status=201)

    async def _patch_channel(self, request: web.Request) -> web.Response:
        account, channel = request.match_info["account"], request.match_info["channel"]
        patched = self._service.patch_channel(account, channel, await _object(request))
        return web.json_response(_channel(account, patched))

    async def _delete_channel(self, request: web.Request) -> web.Response:
        self._service.delete_channel(request.match_info["account"], request.match_info["channel"])
        return web.Response(status=204)

    async def _act(self, request: web.Request) -> web.Response:
        account, channel = request.match_info["account"], request.match_info["channel"]
        fields = Fields(await _object(request))
        phone = fields.text("phone")
        fields.done()
        moved = self._service.act(account, channel, request.match_info["action"], phone)
        return web.json_response(_channel(account, moved))

    async def _act_on_account(self, request: web.Request) -> web.Response:
        Fields(await _object(request)).done()
        account, action = request.match_info["account"], request.match_info["action"]
        return web.json_response(_account(self._service.act_on_account(account, action)))

    async def _list_faults(self, request: web.Request) -> web.Response:
        return web.json_response([_fault(fault, left) for fault, left in self._faults.active()])

    async def _add_fault(self, request: web.Request) -> web.Response:
        values = await _object(request)
        account = values.get("account")
        if isinstance(account, str):
            self._service.account(account)
        fault = self._faults.add(values)
        return web.json_response({"kind": fault.kind, "account": fault.account}, status=201)

    async def _clear_faults(self, request: web.Request) -> web.Response:
        self._faults.clear()
        return web.Response(status=204)

    async def _requests(self, request: web.Request) -> web.Response:
        account = request.query.get("account")
        found = [vars(entry) for entry in self._record.requests(account)]
        return web.json_response({"total": self._record.total(account), "requests": found})

    async def _clear_requests(self, request: web.Request) -> web.Response:
        self._record.clear()
        return web.Response(status=204)

    async def _history(self, request: web.Request) -> web.Response:
        account = request.query.get("account")
        changes = [
            vars(change) for change in self._service.history if account in (None, change.account)
        ]
        return web.json_response(changes)


def _account(account: Account) -> dict[str, object]:
    return {
        "id": account.id,
        "keys": account.keys,
        "sidecarKeys": account.sidecar_keys,
        "forbidden": account.forbidden,
    }


def _channel(account: str, channel: Channel) -> dict[str, object]:
    return {"account": account, "id": channel.id, "row": channel.row}


def _fault(fault: Fault, seconds: float | None) -> dict[str, object]:
    return {
        "kind": fault.kind,
        "account": fault.account,
        "times": fault.left,
        "seconds": seconds,
        "hits": fault.hits,
        "parameters": fault.parameters,
    }


def new_channel(body: object) -> NewChannel:
    """Parse the JSON object of a channel to add."""
    if not isinstance(body, dict):
        raise InvalidError("A channel must be a JSON object.")
    fields = Fields(body)
    new = NewChannel(
        phone=fields.required_text("phone"),
        transport=fields.text("transport") or "whatsapp",
        name=fields.text("name"),
        state=fields.text("state"),
        channel_id=fields.text("channelId"),
        duplicate=fields.flag("duplicate") or False,
    )
    fields.done()
    return new


async def _json(request: web.Request) -> object:
    text = await request.text()
    try:
        return json.loads(text) if text else {}
    except ValueError as error:
        raise web.HTTPBadRequest(text="The body is not JSON.") from error


async def _object(request: web.Request) -> dict[str, object]:
    body = await _json(request)
    if not isinstance(body, dict):
        raise web.HTTPBadRequest(text="The body must be a JSON object.")
    return body


@web.middleware
async def _errors_as_json(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except RefusalError as refused:
        return web.json_response({"error": str(refused)}, status=STATUSES[type(refused)])
    except web.HTTPBadRequest as error:
        return web.json_response({"error": error.text}, status=400)
    except (web.HTTPNotFound, web.HTTPMethodNotAllowed) as error:
        message = f"There is no route {request.method} {request.path}."
        return web.json_response({"error": message}, status=error.status)
