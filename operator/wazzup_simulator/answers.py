"""HTTP answers of the API."""

import json
from dataclasses import dataclass, field

JSON_TYPE = "application/json; charset=utf-8"


@dataclass(frozen=True)
class Answer:
    """An HTTP answer."""

    status: int
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)


def json_answer(value: object, status: int = 200) -> Answer:
    """Return an answer with a JSON body."""
    body = json.dumps(value, ensure_ascii=False).encode()
    return Answer(status, body, {"Content-Type": JSON_TYPE})


INVALID_KEY = json_answer(
    {"error": "INVALID_APIKEY", "description": "Invalid authorization header"}, 401
)
"""The status is from "Common errors", the body was seen live."""

FORBIDDEN = json_answer({"error": "FORBIDDEN"}, 403)
"""The status is from "Common errors", the body was seen live."""

NO_SUCH_ROUTE = json_answer({"error": "NOT_FOUND", "description": "This route does not exist"}, 404)
"""The shape is from "Common errors", the text is the simulator's own."""

TOO_MANY_REQUESTS = Answer(429)
"""The status is from "Common errors"; no page documents a body or a Retry-After."""
