"""The command wazzup-simulator: options, output, exit."""

import contextlib
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable

import pytest

from wazzup_simulator.cli import main
from wazzup_simulator.client import Simulator, _address

COMMAND = [sys.executable, "-m", "wazzup_simulator", "--port=0"]


@pytest.fixture(autouse=True)
def _importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", ":".join(path for path in sys.path if path))


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """Run the command in this process; returns its exit code."""

    def run(*options: str) -> int:
        monkeypatch.setattr(sys, "argv", ["wazzup-simulator", *options])
        with pytest.raises(SystemExit) as ended:
            main()
        return int(str(ended.value))

    return run


def test_each_key_gets_an_account() -> None:
    with Simulator.launch(["k1", "k2"]) as simulator:
        assert [(found.id, found.keys) for found in simulator.accounts()] == [
            ("default", ["k1"]),
            ("default-2", ["k2"]),
        ]
        assert simulator.channels() == []


def test_channels_are_created_in_the_first_account() -> None:
    options = [
        "--api-key=k1",
        "--api-key=k2",
        "--channel=phone=12025550102,name=Support",
        "--channel=phone=12025550104,transport=wapi,state=active",
    ]
    with subprocess.Popen([*COMMAND, *options], stdout=subprocess.PIPE, text=True) as process:
        simulator = Simulator(_address(process))
        shown = [
            [found.row[name] for name in ("plainId", "transport", "name", "state")]
            for found in simulator.channels()
        ]
        others = simulator.channels("default-2")
        process.terminate()
    assert shown == [
        ["12025550102", "whatsapp", "Support", "qridle"],
        ["12025550104", "wapi", "12025550104", "active"],
    ]
    assert others == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_stops_it_while_a_request_hangs(number: signal.Signals) -> None:
    with subprocess.Popen(
        COMMAND, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        address = _address(process)
        simulator = Simulator(address)
        simulator.add_fault("hang")
        host, port = address.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port))) as hanging:
            hanging.sendall(b"GET /v3/channels HTTP/1.1\r\nHost: x\r\n\r\n")
            while not simulator.requests().requests:
                time.sleep(0.01)
            process.send_signal(number)
            out, err = process.communicate(timeout=10)
    assert (process.returncode, out, err) == (0, "", "")


def test_faults_print_nothing_to_stderr() -> None:
    with subprocess.Popen(
        COMMAND, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        address = _address(process)
        simulator = Simulator(address)
        host, port = address.removeprefix("http://").split(":")
        for kind in ("cut", "refuse"):
            simulator.add_fault(kind, times=1)
            with socket.create_connection((host, int(port))) as connection:
                connection.sendall(b"GET /v3/channels HTTP/1.1\r\nHost: x\r\n\r\n")
                received = b""
                with contextlib.suppress(ConnectionResetError):
                    while more := connection.recv(65536):
                        received += more
            assert (received == b"") == (kind == "refuse")
        process.terminate()
        _, err = process.communicate(timeout=10)
    assert (process.returncode, err) == (0, "")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--port=x"], "wazzup-simulator: Invalid value for '--port': 'x' is not a valid "),
        (["--port=70000"], "wazzup-simulator: Invalid value for '--port': 70000 is not in "),
        (["--colour=red"], "wazzup-simulator: No such option"),
        (["--api-key=a", "--api-key=a"], "wazzup-simulator: Invalid value for --api-key: A key "),
        (["--api-key=a b"], "wazzup-simulator: Invalid value for --api-key: A key must be "),
        (["--channel=phone=1"], "wazzup-simulator: --channel needs an --api-key: "),
        (["--channel=1"], "wazzup-simulator: Invalid value for '--channel': Use the form phone="),
        (["--channel=phone=+1"], "wazzup-simulator: Invalid value for '--channel': The field pho"),
        (["--channel=phone=1,x=2"], "wazzup-simulator: Invalid value for '--channel': Unknown fie"),
        (["--port=1", "act", "pay"], "wazzup-simulator: --port applies only when starting a "),
    ],
)
def test_invalid_options(
    run: Callable[..., int], capsys: pytest.CaptureFixture[str], options: list[str], message: str
) -> None:
    assert run(*options) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(message)
    assert err.count("\n") == 1


@pytest.mark.parametrize(("option", "code"), [("--port=x", 2), ("--port={taken}", 1)])
def test_process_exits_with_a_message_and_a_code(option: str, code: int) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        option = option.format(taken=taken.getsockname()[1])
        ended = subprocess.run([*COMMAND, option], capture_output=True, text=True, timeout=10)
    assert (ended.returncode, ended.stdout, ended.stderr.count("\n")) == (code, "", 1)
    if code == 1:
        port = option.partition("=")[2]
        assert f"wazzup-simulator: Cannot listen on 127.0.0.1 port {port}: " in ended.stderr


def test_launch_raises_if_the_simulator_does_not_start() -> None:
    launched = Simulator.launch(["same", "same"])
    with pytest.raises(RuntimeError, match="did not start"):
        launched.__enter__()
