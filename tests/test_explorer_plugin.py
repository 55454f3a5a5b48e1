"""The tab in TensorBoard: what it lists, what it serves, and what it refuses."""

import errno
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from attention_models import VARIANTS, build
from explorer_pages import LETTERS, checkpoint_of, exhibit_of
from werkzeug.test import Client

from gpt.explorer import listing
from gpt.explorer.plugin import AttentionPlugin
from gpt.files import remove
from gpt.storage import checkpoint as checkpoint_module
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


def tab_of(logdir) -> AttentionPlugin:
    return AttentionPlugin(SimpleNamespace(logdir=str(logdir)))


def ask(tab: AttentionPlugin, route: str, method: str = "GET", **query):
    return Client(tab.get_plugin_apps()[route]).open(method=method, query_string=query)


def get(logdir, route: str, method: str = "GET", **query):
    return ask(tab_of(logdir), route, method, **query)


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


@pytest.fixture
def patient():
    """Ends a test that waits: a pipe without a writer would keep it for ever."""

    def wake(*_):
        pytest.fail("it hangs")

    before = signal.signal(signal.SIGALRM, wake)
    signal.alarm(5)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def loop(path: Path) -> None:
    path.symlink_to(path.name)


def endless(path: Path) -> None:
    path.symlink_to("/dev/zero")


STEP = "checkpoints/step-000100"
BAD_PLACES = ["best", "last", "checkpoints", STEP]
BAD_PLACES += [f"{STEP}/{name}" for name in ("manifest.json", "config.json", "stranger")]


@pytest.mark.usefixtures("patient")
@pytest.mark.parametrize("place", BAD_PLACES)
@pytest.mark.parametrize("put", [loop, endless, os.mkfifo], ids=["loop", "device", "pipe"])
def test_what_is_no_plain_file_costs_its_own_run_alone(logdir, place, put):
    remove(logdir / "plain" / place)
    put(logdir / "plain" / place)
    assert f"deep/{ODD}" in [run["name"] for run in get(logdir, "/runs").json]
    assert get(logdir, "/page", run=f"deep/{ODD}", checkpoint="step-000100").status_code == 200
    bad = get(logdir, "/page", run="plain", checkpoint="step-000100")
    assert bad.status_code == (200 if place in ("best", "last") else 404)


@pytest.mark.parametrize("place", ["", "checkpoints", "checkpoints/step-000100"])
def test_a_folder_that_cannot_be_read_costs_its_own_run_alone(logdir, place, monkeypatch):
    """Root may read all: the system's refusal is put in by hand."""
    closed = logdir / "plain" / place

    def refusing(call):
        def refuse(path="."):
            if Path(path) == closed:
                raise PermissionError(errno.EACCES, "Permission denied", str(path))
            return call(path)

        return refuse

    for name in ("scandir", "listdir"):
        monkeypatch.setattr(os, name, refusing(getattr(os, name)))
    found = {run["name"] for run in get(logdir, "/runs").json} - {"plain"}
    assert found == {f"deep/{ODD}"}
    assert get(logdir, "/page", run=f"deep/{ODD}", checkpoint="step-000100").status_code == 200


def test_folders_nested_deeper_than_pythons_stack_are_walked(logdir):
    """Only a step at a time: the path as a whole is longer than the system takes."""
    here = os.open(logdir, os.O_RDONLY)
    for _ in range(2 * sys.getrecursionlimit()):
        os.mkdir("a", dir_fd=here)
        below = os.open("a", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    os.close(here)
    try:
        assert len(get(logdir, "/runs").json) == 2
    finally:
        subprocess.run(["rm", "-rf", logdir / "a"], check=True)  # shutil's would recurse too deep


def test_a_checkpoint_too_large_for_a_page_is_not_read(logdir):
    weights = logdir / "plain" / "checkpoints" / "step-000100" / "model.safetensors"
    with weights.open("r+b") as file:
        file.truncate(2**40)  # takes no room on the disk, but would in memory
    assert [run["name"] for run in get(logdir, "/runs").json] == [f"deep/{ODD}"]


def test_other_steps_are_not_read_through_links(logdir, tmp_path):
    own = logdir / "plain" / "checkpoints"
    save_checkpoint(tmp_path / "other", checkpoint_of(build(VARIANTS["gpt"]), LETTERS, 50))
    (own / "step-000050").symlink_to(tmp_path / "other" / "checkpoints" / "step-000050")
    page = get(logdir, "/page", run="plain", checkpoint="step-000100")
    assert (page.status_code, '"history":[]' in page.text) == (200, True)


def test_weights_beyond_16_bits_are_said_in_words(logdir):
    checkpoint = exhibit_of("gpt").checkpoint
    next(iter(checkpoint.weights.values())).flatten()[0] = 1e6
    save_checkpoint(logdir / "wild", checkpoint)
    page = get(logdir, "/page", run="wild", checkpoint="step-000100")
    assert (page.status_code, page.mimetype) == (422, "text/plain")
    assert "beyond 16-bit floats" in page.text
    assert get(logdir, "/page", run="plain", checkpoint="step-000100").status_code == 200


def test_best_is_what_the_run_directory_calls_so(logdir):
    """Of several that lose alike it is the oldest, whatever the file `best` says."""
    (logdir / "deep" / ODD / "best").write_text("step-1000000")
    runs = {run["name"]: run["best"] for run in get(logdir, "/runs").json}
    assert runs[f"deep/{ODD}"] == "step-000100"


def test_a_page_looks_at_its_own_run_alone(logdir, monkeypatch):
    tab, scandir, seen = tab_of(logdir), os.scandir, []
    assert len(ask(tab, "/runs").json) == 2
    monkeypatch.setattr(os, "scandir", lambda path=".": (seen.append(str(path)), scandir(path))[1])
    assert ask(tab, "/page", run="plain", checkpoint="step-000100").status_code == 200
    assert tab.is_active()
    assert [path for path in seen if path == str(logdir) or "deep" in path] == []


def test_runs_are_looked_for_anew_when_they_are_asked_for(logdir):
    tab = tab_of(logdir)
    assert len(ask(tab, "/runs").json) == 2
    save_checkpoint(logdir / "later", exhibit_of("gpt").checkpoint)
    assert len(ask(tab, "/runs").json) == 3


@pytest.mark.parametrize("moment", ["before", "while it is read"])
def test_a_checkpoint_that_is_rotated_away_is_said_to_be_gone(logdir, monkeypatch, moment):
    tab, path = tab_of(logdir), logdir / "plain" / "checkpoints" / "step-000100"
    ask(tab, "/runs")
    if moment == "before":
        remove(path)
    else:
        verify = checkpoint_module.verified_files
        monkeypatch.setattr(
            checkpoint_module, "verified_files", lambda place: (remove(place), verify(place))[1]
        )
    page = ask(tab, "/page", run="plain", checkpoint="step-000100")
    assert (page.status_code, page.mimetype) == (410, "text/plain")
    assert "step-000100 of the run plain is not there any more" in page.text
    assert "damaged" not in page.text


def test_a_run_whose_checkpoints_are_replaced_meanwhile_is_looked_at_again(logdir, monkeypatch):
    deleted, checkpoints_of = iter([[logdir / "step-000001"]] * 2), listing.checkpoints_of
    monkeypatch.setattr(
        listing, "checkpoints_of", lambda run: next(deleted, None) or checkpoints_of(run)
    )
    assert len(listing.plain_checkpoints_of(logdir / "plain")) == 1


def test_tensorboard_starts_without_torch():
    code = "import gpt.explorer.plugin, sys; print('torch' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout == "False\n"


@pytest.fixture
def board_page(logdir, browser):
    """A browser's page on TensorBoard's tab, and the address."""
    from tensorboard import default, program

    board = program.TensorBoard([*default.get_static_plugins(), AttentionPlugin])
    flags = {"--logdir": logdir, "--host": "127.0.0.1", "--port": 0, "--load_fast": "false"}
    board.configure([None, *(str(word) for pair in flags.items() for word in pair)])
    page = browser.new_page()
    address = board.launch()
    yield page, address
    page.close()


@pytest.mark.browser
@pytest.mark.filterwarnings("default")  # TensorBoard's own
def test_tab_shows_the_page_of_the_chosen_checkpoint(board_page):
    page, address = board_page
    requests: list[str] = []
    page.on("request", lambda request: requests.append(request.url))
    page.goto(f"{address}#attention")
    tab = page.frame_locator("iframe[src*='plugin_entry']")
    tab.get_by_label("run").select_option("plain")
    inner = tab.frame_locator("iframe")
    inner.locator("#badge.good").wait_for()
    inner.locator("#characters").focus()
    page.keyboard.press("Home")
    inner.locator("#sentence", has_text="at 1 gives 100").wait_for()
    inner.locator("#lesson-next").click()
    inner.locator("#lesson-reckoning", has_text="= −0.4758").wait_for()
    elsewhere = [url for url in requests if not url.startswith((address, "data:", "blob:"))]
    assert elsewhere == []


@pytest.mark.browser
@pytest.mark.filterwarnings("default")
def test_another_checkpoint_opens_at_the_same_head_character_and_text(board_page):
    page, address = board_page
    page.goto(f"{address}#attention")
    tab = page.frame_locator("iframe[src*='plugin_entry']")
    tab.get_by_label("run").select_option(label=f"deep/{ODD}")
    tab.get_by_label("checkpoint").select_option("step-1000000")
    inner = tab.frame_locator("iframe")
    inner.locator("#facts", has_text="step 1000000").wait_for()
    inner.locator("#typing summary").click()
    inner.locator("#own-text").fill("cab bad")
    inner.locator("#characters", has_text=re.compile("^cab·bad$")).wait_for()
    inner.locator("#characters").press("Home")
    for key in ("ArrowRight", "PageDown", "ArrowDown"):
        inner.locator("#characters").press(key)
    tab.get_by_label("checkpoint").select_option("step-000100")
    inner.locator("#facts", has_text="step 100,").wait_for()
    inner.locator("#sentence", has_text="'a' at 2").wait_for()
    assert inner.locator("#head").evaluate("list => list.selectedOptions[0].text") == "L2H2"
    assert inner.locator("#characters").text_content() == "cab·bad"
