"""The command `export`: the key, Wazzup's answers, the folder."""

import http.server
import json
import subprocess
import sys
import threading

import pytest

KEY = "d41d8cd98f00b204e9800998ecf8427e"
NUMBER = "79865784457"
HEAVY = {"kubernetes", "kopf", "cryptography"}


def row(channel_id="a", state="active", number=NUMBER, **more):
    return {
        "channelId": channel_id,
        "transport": "whatsapp",
        "plainId": number,
        "state": state,
    } | more


class Wazzup:
    """Answers every request with the same status and body; keeps the keys."""

    def __init__(self):
        self.status, self.body, self.keys = 200, json.dumps([row(name="Sales")]), []
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                outer.keys.append(self.headers["Authorization"])
                self.send_response(outer.status)
                self.send_header("Location", "http://127.0.0.1:1/")
                self.end_headers()
                self.wfile.write(outer.body.encode())

            def log_message(self, *arguments):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"


@pytest.fixture
def wazzup(monkeypatch):
    wazzup = Wazzup()
    thread = threading.Thread(target=wazzup.server.serve_forever, args=(0.01,))
    thread.start()
    monkeypatch.setenv("WAZZUP_OPERATOR_WAZZUP_URL", wazzup.url)
    yield wazzup
    wazzup.server.shutdown()
    wazzup.server.server_close()
    thread.join()


@pytest.fixture
def export(run, wazzup, monkeypatch):
    """Return a function that exports with the key in the variable."""
    monkeypatch.setenv("WAZZUP_API_KEY", KEY)
    return lambda *words, **more: run("export", *words, **more)


def test_standard_output(export):
    done = export()
    assert done.code == 0
    assert done.out.count("kind: Wazzup") == 2
    assert done.err.splitlines() == [
        "Channels in Wazzup: 1. Declared: 1, 0 of them off.",
        "States in Wazzup: 'active' 1.",
        "This version knows every state and field.",
    ]


def test_what_is_exported_passes_the_check(export, run):
    done = run("check", "-", stdin=export().out.encode())
    assert done == (0, "", "2 objects in 1 file: 0 errors, 0 warnings.\n")


@pytest.mark.parametrize("place", ["variable", "file", "stdin"])
def test_where_the_key_is_read(run, wazzup, tmp_path, monkeypatch, place):
    key = f" {KEY}\n".encode()
    (tmp_path / "key").write_bytes(key)
    if place == "variable":
        monkeypatch.setenv("WAZZUP_API_KEY", key.decode())
        done = run("export")
    elif place == "file":
        monkeypatch.setenv("WAZZUP_API_KEY", "another")
        done = run("export", "--api-key-file", "key")
    else:
        done = run("export", "--api-key-file=-", stdin=key)
    assert done.code == 0
    assert wazzup.keys == [f"Bearer {KEY}"]
    assert KEY not in done.out + done.err


def one_line(done, code):
    assert (done.code, done.out) == (code, "")
    (line,) = done.err.splitlines()
    assert line.startswith("wazzup-operator export: ")
    assert KEY not in line
    return line


def test_a_key_that_is_missing_or_unusable(run, wazzup, tmp_path, monkeypatch):
    for words in ([], [KEY], ["--api-key-file=-", KEY]):
        assert "set WAZZUP_API_KEY to the API key, or --api-key-file to" in one_line(
            run("export", *words), 2
        )
    assert "--api-key" in one_line(run("export", f"--api-key={KEY}"), 2)
    for name in (KEY, f"{KEY}/{KEY}"):
        line = one_line(run("export", f"--api-key-file={name}"), 2)
        assert "--api-key-file: No such file or directory. Give the name of a file" in line
    line = one_line(run("export", "--api-key-file=a\0"), 2)
    assert "--api-key-file: not a file name. Give the name of a file" in line
    monkeypatch.setenv("WAZZUP_API_KEY", "")
    assert "The variable WAZZUP_API_KEY is empty. Put" in one_line(run("export"), 1)
    monkeypatch.setenv("WAZZUP_API_KEY", f"{KEY} {KEY}")
    assert one_line(run("export"), 1).endswith(
        " is not an API key: it contains a line break, a space or a non-ASCII character. Put only"
        " the API key there."
    )
    done = run("export", "--api-key-file=-", stdin=b"\xff")
    assert "Standard input is not an API key" in one_line(done, 1)
    done = run("export", "--api-key-file=-", stdin=KEY.encode("utf-16"))
    assert "Standard input is UTF-16 text" in one_line(done, 1)
    assert wazzup.keys == []


ANSWERS = {
    401: "Wazzup rejects this API key (401). Copy it again from Wazzup",
    403: "does not allow this API key to list channels (403)",
    404: "no list of channels at this address (404). Check --wazzup-url.",
    429: "Try again in a minute.",
    500: "Wazzup answered with an error (500). Try again later.",
    302: "Wazzup redirects to another address (302). Check --wazzup-url.",
}


@pytest.mark.parametrize("status", ANSWERS)
def test_an_error_of_wazzup_is_one_line(export, wazzup, status, tmp_path):
    wazzup.status = status
    assert ANSWERS[status] in one_line(export("--output-dir=out"), 1)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("odd", ['"{}"', "'{}'", "API_KEY={}", "${{{}}}"])
def test_a_rejected_key_that_is_probably_none(run, wazzup, odd):
    wazzup.status = 401
    done = run("export", "--api-key-file=-", stdin=odd.format(KEY).encode())
    assert "(401), which contains " in one_line(done, 1)


def test_an_answer_that_is_no_listing(export, wazzup):
    for wazzup.body in ("<html>", "{}", "[[]]"):
        assert "is not a list of channels. Check --wazzup-url" in one_line(export(), 1)


def test_a_listing_that_is_too_large(export, wazzup, monkeypatch):
    wazzup.body = f"[]{' ' * 9}"
    monkeypatch.setattr("wazzup_operator.wazzup.client.MAX_BODY", 10)
    assert "listing exceeds the operator's limit of 0 MiB" in one_line(export(), 1)


def test_nobody_listens(export, wazzup, monkeypatch):
    monkeypatch.setenv("WAZZUP_OPERATOR_WAZZUP_URL", "http://127.0.0.1:1")
    assert "Cannot connect to Wazzup" in one_line(export(), 1)


def tree(folder):
    return {str(each.relative_to(folder)): each.read_bytes() for each in folder.rglob("*.*")}


def test_a_new_folder(export, wazzup, tmp_path):
    wazzup.body = json.dumps(
        [row(name="Sales"), row("b", "disabled", "79990001122"), row("c", number=None)]
    )
    done = export("-o", "deep/out", "--namespace=shop")
    assert (done.code, done.out) == (0, "")
    assert done.err.splitlines()[-1] == "Files: 3 new, 0 changed, 0 unchanged."
    out = tmp_path / "deep" / "out"
    files = tree(out)
    assert files.keys() == {
        "account-default.yaml",
        "channel-sales.yaml",
        "channel-whatsapp-1122.yaml",
        "kustomization.yaml",
        "not-exported.yaml",
    }
    assert files["kustomization.yaml"].decode() == (
        "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\nresources:\n"
        "- account-default.yaml\n- channel-sales.yaml\n- channel-whatsapp-1122.yaml\n"
    )
    assert files["not-exported.yaml"].decode() == (
        "# In the Wazzup account, but not exported:\n# Channels without a number:\n"
        "# - c whatsapp (active)\n"
    )
    again = export("-o", "deep/out", "--namespace=shop")
    assert again.err.splitlines()[-1] == "Files: 0 new, 0 changed, 3 unchanged."
    assert tree(out) == files


def test_a_second_export_changes_only_what_wazzup_changed(export, wazzup, tmp_path):
    export("-o", "out")
    sales = tmp_path / "out" / "channel-sales.yaml"
    edited = sales.read_text().replace("  name: sales\n", "  name: team\n  labels: {a: b} # c\n")
    sales.write_bytes(b"\xef\xbb\xbf" + edited.replace("\n", "\r\n").encode())
    wazzup.body = json.dumps([row(state="disabled", name="Sales"), row("b", number="79990001122")])
    before = tree(tmp_path / "out")
    assert export("-o", "out").code == 0
    after = tree(tmp_path / "out")
    text = after.pop("channel-sales.yaml").decode()
    assert text == "\ufeff" + edited.replace("\n", "\r\n").replace(
        '4457"\r\n', '4457"\r\n  active: false\r\n'
    )
    assert b"79990001122" in after.pop("channel-whatsapp-1122.yaml")
    assert after.pop("kustomization.yaml") == before["kustomization.yaml"] + (
        b"- channel-whatsapp-1122.yaml\n"
    )
    assert after == {"account-default.yaml": before["account-default.yaml"]}


def test_what_is_left_out_is_up_to_date(export, wazzup, tmp_path):
    wazzup.body = json.dumps([row(number=None)])
    export("-o", "out")
    wazzup.body = "[]"
    export("-o", "out")
    text = (tmp_path / "out" / "not-exported.yaml").read_text()
    assert text == "# Everything in the Wazzup account is exported.\n"


def test_no_kustomization_is_started_among_other_files(export, tmp_path):
    (tmp_path / "config.yaml").write_text("kind: ConfigMap\n")
    assert export("-o", ".").code == 0
    assert not (tmp_path / "kustomization.yaml").exists()


def test_a_kustomization_names_each_file_once(export, tmp_path):
    (tmp_path / "kustomization.yaml").write_text("resources:\n- channel-sales.yaml\n")
    assert export("-o", ".").code == 0
    assert (tmp_path / "kustomization.yaml").read_text() == (
        "resources:\n- channel-sales.yaml\n- account-default.yaml\n"
    )


def test_a_kustomization_that_cannot_be_changed(export, tmp_path):
    (tmp_path / "kustomization.yaml").write_text("resources: [config.yaml]\n")
    done = export("-o", ".")
    assert done.code == 1
    assert done.err.splitlines()[-1] == (
        "kustomization.yaml: Add to resources by hand: account-default.yaml, channel-sales.yaml"
    )
    assert (tmp_path / "channel-sales.yaml").exists()


@pytest.mark.parametrize(
    ("name", "text", "sentence"),
    [
        ("x.yaml", "wazzup: [", "x.yaml: The file is not YAML: "),
        ("x.yaml", "kind: WazzupChannel", "x.yaml has errors. Run: wazzup-operator check"),
        ("channel-sales.yaml", "kind: ConfigMap", "channel-sales.yaml exists already. Move it"),
    ],
)
def test_a_folder_that_cannot_be_used_stays_as_it_is(export, tmp_path, name, text, sentence):
    out = tmp_path / "out"
    out.mkdir()
    (out / name).write_text(text)
    assert sentence in one_line(export("-o", "out"), 1)
    assert tree(out) == {name: text.encode()}


def test_the_folder_is_a_file(export, tmp_path):
    (tmp_path / "out").write_text("")
    assert "out" in one_line(export("-o", "out"), 2)


def test_the_command_imports_no_client_of_kubernetes(wazzup, tmp_path):
    program = (
        "import sys; sys.argv[1:] = ['export']\n"
        "from wazzup_operator.cli import main\n"
        "try: main()\n"
        "finally: print(*sorted({each.partition('.')[0] for each in sys.modules}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={"WAZZUP_API_KEY": KEY, "WAZZUP_OPERATOR_WAZZUP_URL": wazzup.url},
        capture_output=True,
        text=True,
        check=True,
    )
    modules = set(done.stdout.splitlines()[-1].split())
    assert {"wazzup_operator", "aiohttp"} <= modules
    assert modules & HEAVY == set()
