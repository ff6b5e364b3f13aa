"""The command act, run as a process against a running simulator."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest

from tests.simulator.customer import Customer
from wazzup_simulator.actions import ACCOUNT_ACTIONS, ACTIONS
from wazzup_simulator.client import Simulator

Act = Callable[..., str]
SUPPORT, SALES = "12025550102", "12025550104"


def run(*words: str, url: str) -> subprocess.CompletedProcess[str]:
    environment = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": ":".join(path for path in sys.path if path),
        "WAZZUP_SIMULATOR_URL": url,
    }
    command = [sys.executable, "-m", "wazzup_simulator", "act", *words]
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=30)


@pytest.fixture
def act(simulator: Simulator, customer: Customer) -> Act:
    """Run an action that succeeds; returns its output."""
    simulator.add_channel(SUPPORT, account=customer.id)
    simulator.add_channel(SALES, "wapi", account=customer.id, state="active")

    def act(*words: str) -> str:
        done = run(*words, f"--account={customer.id}", url=simulator.base_url)
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout

    return act


@pytest.fixture
def refused(simulator: Simulator, customer: Customer, act: Act) -> Callable[..., tuple[int, str]]:
    """Run an action that fails; returns its exit code and message."""

    def refused(*words: str) -> tuple[int, str]:
        # click uses the last --account, so `words` can override it.
        done = run(f"--account={customer.id}", *words, url=simulator.base_url)
        return done.returncode, message_of(done)

    return refused


def message_of(done: subprocess.CompletedProcess[str]) -> str:
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1, done.stderr
    return done.stderr.removeprefix("wazzup-simulator: ").rstrip("\n")


def test_phone_is_scanned_lost_and_found(act: Act) -> None:
    assert act("scan", SUPPORT) == f"{SUPPORT}: qridle -> active\n"
    assert act("lose-phone", SUPPORT) == f"{SUPPORT}: active -> phoneUnavailable\n"
    assert act("find-phone", f"+{SUPPORT}") == f"{SUPPORT}: phoneUnavailable -> active\n"


def test_account_is_unpaid_and_paid(act: Act) -> None:
    assert act("run-out-of-money").splitlines() == [
        f"{SUPPORT}: qridle -> notEnoughMoney",
        f"{SALES}: active -> notEnoughMoney",
    ]
    assert act("pay").splitlines() == [
        f"{SUPPORT}: notEnoughMoney -> qridle",
        f"{SALES}: notEnoughMoney -> active",
    ]
    assert act("pay") == "Nothing changed.\n"


def test_number_is_added_and_deleted(act: Act, simulator: Simulator, customer: Customer) -> None:
    new = "12025550105"
    options = ["--name=News", "--transport=wapi", "--state=onModeration"]
    assert act("add", f"+{new}", *options) == f"{new}: absent -> onModeration\n"
    row = simulator.channels(customer.id)[-1].row
    assert (row["plainId"], row["name"], row["transport"]) == (new, "News", "wapi")
    assert act("delete", new) == f"{new}: onModeration -> absent\n"
    assert len(simulator.channels(customer.id)) == 2


def test_scan_with_another_phone(act: Act) -> None:
    assert act("scan", SUPPORT, "--phone=+12025550199") == f"{SUPPORT}: qridle -> foreignphone\n"


def test_channel_id_selects_one_of_several_channels(
    act: Act, refused: Callable[..., tuple[int, str]], simulator: Simulator, customer: Customer
) -> None:
    second = simulator.add_channel(SUPPORT, account=customer.id, duplicate=True)
    first = simulator.channels(customer.id)[0]
    code, message = refused("scan", SUPPORT)
    assert (code, first.id in message, second.id in message) == (1, True, True)
    assert act("scan", second.id) == f"{SUPPORT}: qridle -> active\n"


def test_help_lists_every_action(act: Act) -> None:
    shown = act("--help").replace("\n", " ").replace(",", " ").split()
    assert {"add", "delete", *ACTIONS, *ACCOUNT_ACTIONS} <= set(shown)


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (
            ["scan", "12025550199"],
            1,
            f"This account has no channel 12025550199. Its channels: {SUPPORT}, {SALES}.",
        ),
        (
            ["lose-phone", SUPPORT],
            1,
            "The action lose-phone needs the state active or init; the channel's is qridle.",
        ),
        (["pay", "--account=nobody's"], 1, "There is no account nobody's."),
        (["fly", SUPPORT], 2, "Unknown action fly. Actions: add, delete, scan, "),
        ([], 2, "The action is missing. Actions: add, delete, scan, "),
        (["scan"], 2, "The action scan needs a channel's number."),
        (["pay", SUPPORT], 2, f"The action pay is for a whole account. Leave out {SUPPORT}."),
        (["tick", SUPPORT, "--state=active"], 2, "The action tick takes no --state."),
        (["pay", "--url=localhost"], 2, "Invalid value for '--url'"),
    ],
)
def test_errors(
    refused: Callable[..., tuple[int, str]], words: list[str], code: int, message: str
) -> None:
    got_code, got = refused(*words)
    assert (got_code, got[: len(message)]) == (code, message)


def test_no_simulator_is_running() -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as closed:
        url = f"http://127.0.0.1:{closed.server_port}"
    done = run("pay", url=url)
    assert done.returncode == 1
    assert message_of(done) == (
        f"No simulator answers at {url} (Connection refused). Start wazzup-simulator, or set its"
        " address with --url or WAZZUP_SIMULATOR_URL."
    )


@pytest.fixture(params=[200, 404, 502])
def website(request: pytest.FixtureRequest) -> Iterator[str]:
    """Serve a web page."""

    class Page(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(request.param)
            self.end_headers()
            self.wfile.write(b"<h1>Hello</h1>\n<p>Two lines.</p>\n")

        def log_message(self, *_: object) -> None:
            """Stay silent."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Page) as server:
        Thread(target=server.serve_forever).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_server_is_not_a_simulator(website: str) -> None:
    done = run("pay", url=website)
    assert done.returncode == 1
    assert message_of(done) == f"The server at {website} is not a simulator."
