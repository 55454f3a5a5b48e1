"""What all tests share: a small text, small sizes, no network, nothing written into the project."""

import importlib.util
import os
import re
import shutil
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import torch
from explorer_pages import settle
from hypothesis import settings

import gpt.files
import gpt.paths
from gpt.config import Config
from gpt.data.corpus import Corpus, load_corpus
from gpt.paths import PROJECT

settings.register_profile("repeatable", derandomize=True, deadline=None, database=None)
settings.load_profile("repeatable")
torch.set_num_threads(1)
os.environ["OMP_NUM_THREADS"] = "1"  # for the processes that tests start
# a job in the background, or under nohup, ignores these, and so does all that a test starts
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)

ROOMS = ("attention_", "explorer_")  # in the names of their suites


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run the suites in the order of the map of gpt/: what is broken fails first in its own."""
    map_of_gpt = (PROJECT / "gpt" / "README.md").read_text("utf-8")
    modules = re.findall(r"^\|[^|]*\| `(\w+)\.py` \|", map_of_gpt, re.MULTILINE)

    def place(item: pytest.Item) -> int:
        module = item.path.stem.removeprefix("test_")
        for room in ROOMS:
            module = module.removeprefix(room)
        return modules.index(module) if module in modules else len(modules)

    items.sort(key=place)


VERSE = "ROMEO:\nBut soft, what light through yonder window breaks?\n\nJULIET:\nAy me!\n\n"


@pytest.fixture(scope="session", autouse=True)
def no_network() -> Iterator[None]:
    """A test that reaches for the network fails: only this machine's own address is there."""
    connect = socket.socket.connect

    def local(self: socket.socket, address: object) -> None:
        if self.family != socket.AF_UNIX and (
            not isinstance(address, tuple) or address[0] != "127.0.0.1"
        ):
            raise AssertionError(f"a test wants to connect to {address}")
        connect(self, address)  # type: ignore[arg-type]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", local)
        yield


@pytest.fixture(autouse=True)
def own_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs and prepared corpora land in the test's own folder, never in the project's."""
    monkeypatch.setattr(gpt.paths, "RUNS", tmp_path / "runs")
    monkeypatch.setattr(gpt.paths, "DATA", tmp_path / "data")


@pytest.fixture(autouse=True)
def no_counting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether a training counts n-grams depends on the clock: here it does where a test says so."""
    monkeypatch.setattr("gpt.training.monitor.count", lambda *_: None)


def said_while_locked(lock: Path, work: Callable[[Callable[[str], None]], object]) -> list[str]:
    """What `work` says while another holds `lock`, which is given free once that is said."""
    said: list[str] = []
    other = ExitStack()
    other.enter_context(gpt.files.lock(lock))

    def say(line: str) -> None:
        said.append(line)
        threading.Thread(target=other.close).start()

    worker = threading.Thread(target=work, args=(say,))
    worker.start()
    worker.join(timeout=60)
    return said


@pytest.fixture
def text_file(tmp_path: Path) -> Path:
    """A text to learn from: 1,500 characters, 36 distinct."""
    path = tmp_path / "verse.txt"
    path.write_text(VERSE * 20, encoding="utf-8")
    return path


@pytest.fixture
def toy_config(text_file: Path) -> Config:
    """A run of a few hundredths of a second."""
    return Config.model_validate(
        {
            "model": {"block_size": 8, "n_layer": 2, "n_head": 2, "n_embd": 16},
            "data": {"text": str(text_file), "val_fraction": 0.1},
            "train": {"device": "cpu", "threads": 1, "batch_size": 4, "max_steps": 6},
            "log": {
                "log_every": 1,
                "eval_every": 3,
                "save_every": 3,
                "tensorboard": False,
                "sample_chars": 20,
            },
        }
    )


@pytest.fixture
def toy_corpus(toy_config: Config) -> Corpus:
    """The corpus of `toy_config`."""
    return load_corpus(toy_config, say=lambda line: None)


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """Debian's chromium, or the program that CHROMIUM names, driven by Playwright.

    Without one its tests are skipped; EXPLORER_BROWSER=required, or CI, makes that a failure.
    """
    program = os.environ.get("CHROMIUM") or shutil.which("chromium")
    playwright = importlib.util.find_spec("playwright")
    if program is None or playwright is None:
        reason = "NO BROWSER: the page is not tested. apt install chromium; pip install playwright"
        required = os.environ.get("EXPLORER_BROWSER") == "required" or os.environ.get("CI")
        (pytest.fail if required else pytest.skip)(reason)
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def open_page(browser: Any, tmp_path: Path) -> Iterator[Any]:
    """Opens HTML in a new page; at the end, holds it to have been quiet and alone."""
    complaints: list[str] = []

    def listen(page: Any) -> None:
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda request: check(request.url))

    def check(url: str) -> None:
        if not url.startswith((path.as_uri(), "data:", "blob:")):
            complaints.append(f"request: {url}")

    def open_(html: str, hash: str = "", width: int = 1200, scheme: str = "light") -> Any:
        path.write_text(html, "utf-8")
        page = context(width, scheme).new_page()
        listen(page)
        page.goto(path.as_uri() + hash)
        page.wait_for_selector("html[data-ready]")
        settle(page)
        return page

    def context(width: int, scheme: str) -> Any:
        made = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
        contexts.append(made)
        return made

    path, contexts = tmp_path / "page.html", []
    yield open_
    for made in contexts:
        made.close()
    assert complaints == []
