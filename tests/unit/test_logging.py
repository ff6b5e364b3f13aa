"""Log format and masked phone numbers."""

import json
import logging

import pytest

from wazzup_operator.domain.phone import mask
from wazzup_operator.observability.logging import configure

DIGITS = "79865784457"
log = logging.getLogger("wazzup_operator.test")


@pytest.fixture
def lines(capsys):
    """Return a function that reads the lines logged so far; restore the loggers afterwards."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    levels = {name: logging.getLogger(name).level for name in ("aiohttp.access", "asyncio")}

    def read():
        captured = capsys.readouterr()
        assert captured.out == ""
        return captured.err.splitlines()

    yield read
    root.handlers[:] = handlers
    root.setLevel(level)
    for name, value in levels.items():
        logging.getLogger(name).setLevel(value)


def fail(number):
    raise ValueError(f"no channel has the number {number}")


@pytest.mark.parametrize(
    "message",
    [
        "number +79865784457 is off",
        "79865784457",
        "phone=79865784457&x=1",
        '{"plainId": "79865784457"}',
        "('79865784457',)",
        "+79865784457, +79865784457",
        "phone_79865784457",
        "first\n79865784457",
        "first\t79865784457",
        "№79865784457",
        "я79865784457",
        "?phone=%2B79865784457",
    ],
    ids=repr,
)
@pytest.mark.parametrize("format_", ["text", "json"])
def test_numbers_are_masked(lines, format_, message):
    configure(format_, "info")
    log.warning(message)
    text = "\n".join(lines())
    assert DIGITS not in text
    assert "***57" in text


@pytest.mark.parametrize("format_", ["text", "json"])
def test_arguments_are_masked(lines, format_):
    configure(format_, "info")
    log.warning("channel %s of %r", "+79865784457", {"plainId": DIGITS, "n": 79865784457})
    assert DIGITS not in "\n".join(lines())


@pytest.mark.parametrize("number", [DIGITS, int(DIGITS), [DIGITS], {"plainId": DIGITS}], ids=repr)
@pytest.mark.parametrize("format_", ["text", "json"])
def test_structured_values_are_masked(lines, format_, number):
    configure(format_, "info")
    log.warning({"number": number})
    log.warning("with a field", extra={"number": number})
    assert DIGITS not in "\n".join(lines())


@pytest.mark.parametrize("separator", [" ", "\n"], ids=["in a line", "at the start of a line"])
@pytest.mark.parametrize("format_", ["text", "json"])
def test_tracebacks_are_masked(lines, format_, separator):
    configure(format_, "info")
    try:
        fail(separator + DIGITS)
    except ValueError:
        log.exception("a pass failed")
    text = "\n".join(lines())
    assert "ValueError" in text
    assert "Traceback" in text
    assert DIGITS not in text


@pytest.mark.parametrize("format_", ["text", "json"])
def test_other_loggers_are_masked_too(lines, format_):
    configure(format_, "info")
    logging.getLogger("aiohttp.client").error("GET /x?phone=%s", DIGITS)
    assert DIGITS not in "\n".join(lines())


def test_json_is_one_object_a_line(lines):
    configure("json", "info")
    log.warning("the account\n%s", "shop/default")
    try:
        fail("+79865784457")
    except ValueError:
        log.exception("a pass failed")
    first, second = (json.loads(line) for line in lines())
    assert first["message"] == "the account\nshop/default"
    assert first["level"] == "WARNING"
    assert first["logger"] == "wazzup_operator.test"
    assert first["time"]
    assert "no channel has the number ***57" in second["exc_info"]


def test_text_is_one_line(lines):
    configure("text", "info")
    log.warning("hello")
    (line,) = lines()
    assert line.endswith("WARNING wazzup_operator.test: hello")


@pytest.mark.parametrize(
    ("level", "count"), [("debug", 4), ("info", 3), ("warning", 2), ("error", 1)]
)
def test_the_minimum_level(lines, level, count):
    configure("text", level)
    log.debug("d")
    log.info("i")
    log.warning("w")
    log.error("e")
    assert len(lines()) == count


def test_requests_are_not_logged(lines):
    configure("text", "info")
    logging.getLogger("aiohttp.access").info("GET /healthz")
    assert lines() == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("+79865784457", "***57"),
        ("79865784457", "***57"),
        ("call +79865784457 or 5215512345678.", "call ***57 or ***78."),
        ("12345678", "***78"),
        ("1234567", "1234567"),
        ("2026-11-22T10:00:00Z", "2026-11-22T10:00:00Z"),
        ("channel 808e0654-51d4-4d14-8e7f-5a1b2c3d4e5f", None),
        ("after 600 s, port 65535", "after 600 s, port 65535"),
        ("", ""),
    ],
)
def test_mask(text, expected):
    assert mask(text) == (text if expected is None else expected)
