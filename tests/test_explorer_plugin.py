"""The tab in TensorBoard: what it lists, what it serves, and what it refuses."""

import subprocess
import sys
from types import SimpleNamespace

import pytest
from attention_models import VARIANTS, build
from explorer_pages import LETTERS, checkpoint_of, exhibit_of
from werkzeug.test import Client

from gpt.explorer import plugin
from gpt.explorer.plugin import AttentionPlugin
from gpt.storage.checkpoint import save_checkpoint

ODD = "a <b>&'\"{{run}} \u202e"


@pytest.fixture
def logdir(tmp_path):
    """Two runs, one of them with an odd name and two checkpoints, and one outside."""
    logdir = tmp_path / "runs"
    save_checkpoint(logdir / "plain", exhibit_of("gpt").checkpoint)
    for step in (100, 1_000_000):
        save_checkpoint(
            logdir / "deep" / ODD, checkpoint_of(build(VARIANTS["modern"]), LETTERS, step)
        )
    save_checkpoint(tmp_path / "outside", exhibit_of("gpt").checkpoint)
    return logdir


def get(logdir, route: str, method: str = "GET", **query):
    plugin = AttentionPlugin(SimpleNamespace(logdir=str(logdir)))
    return Client(plugin.get_plugin_apps()[route]).open(method=method, query_string=query)


def test_runs_are_listed_with_their_checkpoints(logdir):
    runs = {run["name"]: run for run in get(logdir, "/runs").json}
    assert list(runs) == [f"deep/{ODD}", "plain"]
    assert runs[f"deep/{ODD}"]["checkpoints"] == ["step-000100", "step-1000000"]
    assert runs["plain"]["best"] == "step-000100"


def test_page_of_a_run_is_served_with_its_script_allowed(logdir):
    response = get(logdir, "/page", run=f"deep/{ODD}", checkpoint="step-000100")
    assert response.status_code == 200
    policy = response.headers["Content-Security-Policy"]
    digest = policy.split("'sha256-")[1].split("'")[0]
    assert f"script-src 'sha256-{digest}'" in response.text
    assert '"weights"' in response.text


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ({}, 400),
        ({"run": "plain"}, 400),
        ({"run": "none", "checkpoint": "step-000100"}, 404),
        ({"run": "../outside", "checkpoint": "step-000100"}, 404),
        ({"run": "plain", "checkpoint": "../../../outside/checkpoints/step-000100"}, 404),
        ({"run": "/etc", "checkpoint": "passwd"}, 404),
        ({"run": "plain\0", "checkpoint": "step-9"}, 404),
        ({"run": "plain" * 10_000, "checkpoint": "step-000100"}, 404),
    ],
)
def test_what_is_not_there_is_refused_in_a_line(logdir, query, code):
    response = get(logdir, "/page", **query)
    assert (response.status_code, response.mimetype) == (code, "text/plain")


@pytest.mark.parametrize("route", ["/page", "/runs", "/index.js"])
def test_nothing_but_reading_is_answered(logdir, route):
    assert get(logdir, route, method="POST").status_code == 405


def test_links_out_of_the_log_directory_are_not_followed(logdir, tmp_path):
    (logdir / "link").symlink_to(tmp_path / "outside")
    weights = logdir / "plain" / "checkpoints" / "step-000100" / "model.safetensors"
    weights.unlink()
    weights.symlink_to(tmp_path / "outside/checkpoints/step-000100/model.safetensors")
    assert [run["name"] for run in get(logdir, "/runs").json] == [f"deep/{ODD}"]
    assert get(logdir, "/page", run="link", checkpoint="step-000100").status_code == 404


def test_damaged_checkpoint_is_said(logdir):
    (logdir / "plain" / "checkpoints" / "step-000100" / "model.safetensors").write_bytes(b"")
    response = get(logdir, "/page", run="plain", checkpoint="step-000100")
    assert response.status_code == 422
    assert "model.safetensors is damaged" in response.text


@pytest.mark.parametrize("logdir", ["", "/nowhere/at/all"])
def test_without_runs_the_tab_is_not_active(logdir):
    assert get(logdir, "/runs").json == []
    assert not AttentionPlugin(SimpleNamespace(logdir=logdir)).is_active()


def test_what_only_looks_like_a_checkpoint_is_not_listed(logdir):
    checkpoints = logdir / "plain" / "checkpoints"
    (checkpoints / "step-000200").write_bytes(b"a file")
    for name in ("step-5", "step-²00000", "step-000300"):
        (checkpoints / name).mkdir()
    (checkpoints / "step-5" / "manifest.json").write_bytes(b"")
    (checkpoints / "step-²00000" / "manifest.json").write_bytes(b"")
    runs = {run["name"]: run["checkpoints"] for run in get(logdir, "/runs").json}
    assert runs["plain"] == ["step-000100"]


def test_what_a_training_deletes_meanwhile_is_looked_at_again(logdir, monkeypatch):
    vanishing = iter([True, True])
    within = plugin.stays_within

    def deleted(*arguments):
        if next(vanishing, False):
            raise FileNotFoundError
        return within(*arguments)

    monkeypatch.setattr(plugin, "stays_within", deleted)
    assert len(get(logdir, "/runs").json) == 2


def test_tensorboard_starts_without_torch():
    code = "import gpt.explorer.plugin, sys; print('torch' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout == "False\n"


@pytest.mark.browser
@pytest.mark.filterwarnings("default")  # TensorBoard's own
def test_tab_shows_the_page_of_the_chosen_checkpoint(logdir, browser):
    from tensorboard import default, program

    board = program.TensorBoard([*default.get_static_plugins(), AttentionPlugin])
    flags = {"--logdir": logdir, "--host": "127.0.0.1", "--port": 0, "--load_fast": "false"}
    board.configure([None, *(str(word) for pair in flags.items() for word in pair)])
    page = browser.new_page()
    requests: list[str] = []
    page.on("request", lambda request: requests.append(request.url))
    address = board.launch()
    page.goto(f"{address}#attention")
    tab = page.frame_locator("iframe[src*='plugin_entry']")
    tab.get_by_label("run").select_option("plain")
    inner = tab.frame_locator("iframe")
    inner.locator("#badge.good").wait_for()
    inner.locator("#characters").focus()
    page.keyboard.press("Home")
    inner.locator("#sentence", has_text="at 1 gives 100").wait_for()
    elsewhere = [url for url in requests if not url.startswith((address, "data:", "blob:"))]
    assert elsewhere == []
    page.close()
