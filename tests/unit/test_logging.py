"""Log format."""

import asyncio
import gc
import json
import logging

import pytest

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


def fail(text):
    try:
        raise KeyError(text)
    except KeyError as error:
        raise ValueError(text) from error


async def fail_unseen():
    raise ValueError(DIGITS)


@pytest.mark.parametrize("format_", ["text", "json"])
def test_a_traceback_shows_code_and_types_without_messages(lines, format_):
    configure(format_, "info")
    try:
        fail(DIGITS)
    except ValueError:
        log.exception("a pass failed")
    text = "\n".join(lines())
    assert "a pass failed" in text
    assert "Traceback" in text
    assert "raise ValueError(text) from error" in text
    assert text.index("builtins.KeyError") < text.index("builtins.ValueError")
    assert DIGITS not in text


def test_a_traceback_shows_each_exception_of_a_group(lines):
    configure("text", "info")
    error = ExceptionGroup(DIGITS, [OSError(DIGITS), KeyError(DIGITS)])
    log.error("two tasks failed", exc_info=error)
    assert [line for line in lines() if line.startswith("builtins.")] == [
        "builtins.OSError",
        "builtins.KeyError",
        "builtins.ExceptionGroup",
    ]


def test_a_lost_task_is_named_without_its_exceptions_message(lines):
    async def lose_a_task():
        task = asyncio.create_task(fail_unseen())
        await asyncio.wait([task])

    configure("text", "info")
    asyncio.run(lose_a_task())
    gc.collect()
    text = "\n".join(lines())
    assert "Task exception was never retrieved" in text
    assert "in fail_unseen" in text
    assert DIGITS not in text


def test_json_is_one_object_a_line(lines):
    configure("json", "info")
    log.warning("the account\n%s", "shop/default")
    try:
        fail(DIGITS)
    except ValueError:
        log.exception("a pass failed")
    first, second = (json.loads(line) for line in lines())
    assert first["message"] == "the account\nshop/default"
    assert first["level"] == "WARNING"
    assert first["logger"] == "wazzup_operator.test"
    assert first["time"]
    assert second["exc_info"].endswith("builtins.ValueError")


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
