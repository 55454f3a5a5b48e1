"""From bytes to batches: pieces read one by one, mistakes named, nothing of val trained on."""

import errno
import hashlib
import json
import os
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import said_while_locked
from hypothesis import given
from hypothesis import strategies as st

from gpt import files, paths
from gpt.config import Config
from gpt.data import corpus, prepare, shares
from gpt.data import text as text_module
from gpt.data.corpus import Corpus, load_corpus
from gpt.data.shares import Source, split_at
from gpt.data.survey import Survey, survey_text
from gpt.data.text import read_chunks, text_sha256
from gpt.data.tokenizer import CharTokenizer
from gpt.errors import Exit, Mistake
from gpt.paths import PROJECT

Write = Callable[..., str]


def ignore(line: str) -> None:
    """What `say` is where nothing need be said."""


def config_of(*texts: str, block_size: int = 4, val_fraction: float = 0.2) -> Config:
    return Config.model_validate(
        {
            "model": {"block_size": block_size},
            "data": {"text": list(texts), "val_fraction": val_fraction},
        }
    )


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write bytes or text into a file and return its path."""

    def put(content: bytes | str, name: str = "text.txt") -> str:
        data = content.encode("utf-8", "surrogatepass") if isinstance(content, str) else content
        (tmp_path / name).write_bytes(data)
        return str(tmp_path / name)

    return put


def refused(config: Config) -> Mistake:
    """What is said of a corpus that cannot be learned from; nothing is left of it."""
    with pytest.raises(Mistake) as caught:
        load_corpus(config, ignore)
    assert caught.value.exit_code == Exit.CORPUS
    assert not [path for path in paths.DATA.rglob("*") if path.suffix != ".lock"]
    return caught.value


# --- reading -----------------------------------------------------------------------------------

pieces = st.text(st.sampled_from("ab\r\n\u00e9\u20ac\U0001f600\ufeff"), max_size=30)


@given(st.lists(pieces, min_size=1, max_size=3), st.integers(1, 9))
def test_the_size_of_the_pieces_read_changes_nothing(
    tmp_path_factory: pytest.TempPathFactory, texts: list[str], chunk: int
) -> None:
    folder = tmp_path_factory.mktemp("texts")
    paths = []
    for number, text in enumerate(texts):
        paths.append(folder / str(number))
        paths[-1].write_bytes(text.encode())
    expected = "".join(
        path.read_bytes().decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n")
        for path in paths
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(text_module, "CHUNK", chunk)
        assert "".join(piece for path in paths for piece in read_chunks(path)) == expected
        assert text_sha256(paths) == hashlib.sha256(expected.encode()).hexdigest()


@pytest.mark.parametrize("chunk", [1, 2, 3, 5, 7, 1 << 22])
@pytest.mark.parametrize(
    ("before", "bad"), [("ab€€", b"\xff"), ("abcd€", b"\xc3("), ("€", b"\xe2\x82"), ("", b"\x80")]
)
def test_the_first_byte_that_is_not_utf8_is_named(
    write: Write, monkeypatch: pytest.MonkeyPatch, chunk: int, before: str, bad: bytes
) -> None:
    monkeypatch.setattr(text_module, "CHUNK", chunk)
    path = write(before.encode() + bad + b"x" * (bad != b"\xe2\x82"))
    mistake = refused(config_of(path))
    offset = len(before.encode())
    assert f"{path} is not UTF-8: byte {offset} is 0x{bad[0]:02x}" in mistake.what
    assert "UTF-8" in mistake.fix


def test_a_latin_1_file_is_refused(write: Write) -> None:
    assert "byte 3 is 0xe9" in refused(config_of(write("café au lait".encode("latin-1")))).what


# --- preparing ---------------------------------------------------------------------------------


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r"), min_size=30))
def test_the_ids_are_the_text(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    text = "ab" + text.removeprefix("\ufeff")
    folder = tmp_path_factory.mktemp("text")
    (folder / "text.txt").write_bytes(text.encode())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(text_module, "CHUNK", 16)
        patch.setattr(paths, "DATA", folder)
        made = load_corpus(config_of(str(folder / "text.txt")), ignore)
    assert made.tokenizer.decode(made.ids) == text
    assert made.tokenizer.alphabet == "".join(sorted(set(text)))
    assert made.sha256 == hashlib.sha256(text.encode()).hexdigest()


@pytest.mark.parametrize("shift", range(8))
def test_what_lies_across_the_border_of_two_pieces(write: Write, shift: int) -> None:
    """Characters of one to four bytes and line ends of two, at the true size of a piece."""
    text = (
        "a" * (text_module.CHUNK - shift)
        + "é€\U0001f600\r\nb" * 3
        + "c" * text_module.CHUNK
        + "\r\n\rд"
    )
    made = load_corpus(config_of(write(text)), ignore)
    lines = text.replace("\r\n", "\n").replace("\r", "\n")
    rank = {character: number for number, character in enumerate(sorted(set(lines)))}
    assert made.ids.tolist() == [rank[character] for character in lines]
    assert made.sha256 == hashlib.sha256(lines.encode()).hexdigest()


def test_a_text_is_prepared_once(write: Write) -> None:
    said: list[str] = []
    path = write("hello world " * 5)
    first = load_corpus(config_of(path), said.append)
    again = load_corpus(config_of(path, val_fraction=0.4), said.append)
    assert said == ["preparing text.txt: 60 characters, 8 distinct"]
    assert first.ids.tolist() == again.ids.tolist()
    with pytest.MonkeyPatch.context() as patch:
        patch.delattr(shares, "read_chunks")  # a known text need not be decoded
        assert load_corpus(config_of(path), said.append).ids.tolist() == first.ids.tolist()
    write("hello World " * 5)
    assert "W" in load_corpus(config_of(path), said.append).tokenizer.alphabet


@pytest.mark.parametrize(
    ("texts", "copy"),
    [((0o644,), 0o644), ((0o600,), 0o600), ((0o640,), 0o600), ((0o644, 0o600), 0o600)],
)
def test_a_copy_of_a_private_text_is_private(
    write: Write, monkeypatch: pytest.MonkeyPatch, texts: tuple[int, ...], copy: int
) -> None:
    """From its first byte on: the file of another name that it is written to, too."""
    created, real = [], os.open

    def open_(path: str, flags: int, mode: int = 0o777) -> int:
        descriptor = real(path, flags, mode)
        if flags & os.O_CREAT and not str(path).endswith((".lock", ".holder")):
            created.append(stat.S_IMODE(os.fstat(descriptor).st_mode))
        return descriptor

    places = [write("hello world " * 5, f"{number}.txt") for number in range(len(texts))]
    for place, mode in zip(places, texts, strict=True):
        Path(place).chmod(mode)
    monkeypatch.setattr(os, "open", open_)
    before = os.umask(0o022)
    try:
        load_corpus(config_of(*places), ignore)
    finally:
        os.umask(before)
    assert created == [copy] * 3  # ids, passages, meta
    kept = [path for path in (paths.DATA / "prepared").glob("*/*") if path.is_file()]
    assert {stat.S_IMODE(path.stat().st_mode) for path in kept} == {copy}


@pytest.mark.parametrize("readable", range(5))
def test_a_text_that_may_not_be_read_is_a_text(
    write: Write, monkeypatch: pytest.MonkeyPatch, readable: int
) -> None:
    """Root may read all: the system's refusal is put in by hand, at each of the readings."""
    path, opened, real = Path(write("hello world " * 5)), [], os.open

    def open_(name: Any, *args: Any, **options: Any) -> int:
        if name == path:
            opened.append(name)
            if len(opened) > readable:
                raise PermissionError(errno.EACCES, "Permission denied", str(name))
        return real(name, *args, **options)

    monkeypatch.setattr(os, "open", open_)
    with pytest.raises(Mistake, match=f"^cannot read {path}: Permission denied$") as caught:
        load_corpus(config_of(str(path)), ignore)
    assert caught.value.exit_code == Exit.CORPUS


@pytest.mark.parametrize("name", ["ids.bin", "meta.json", "passages.bin"])
def test_a_damaged_preparation_is_made_anew(write: Write, name: str) -> None:
    path = write("hello world " * 5)
    before = load_corpus(config_of(path), ignore).ids.tolist()
    (damaged,) = paths.DATA.rglob(name)
    damaged.write_bytes(damaged.read_bytes()[:-1])
    assert load_corpus(config_of(path), ignore).ids.tolist() == before


def test_a_change_of_any_byte_of_a_preparation_is_noticed(write: Write) -> None:
    made = load_corpus(config_of(write("hällo wörld " * 5)), ignore)
    (folder,) = (path.parent for path in paths.DATA.rglob("ids.bin"))
    assert prepare.prepared_survey(folder, made.sha256)
    assert not prepare.prepared_survey(folder, "0" * 64)
    for file in folder.iterdir():
        whole = file.read_bytes()
        for place in range(len(whole)):
            file.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
            assert not prepare.prepared_survey(folder, made.sha256), (file.name, place)
        file.write_bytes(whole)
    assert prepare.prepared_survey(folder, made.sha256)


def test_a_change_of_the_passages_is_noticed(write: Write) -> None:
    made = load_corpus(config_of(write("a line of a text\n" * 40)), ignore)
    (file,) = paths.DATA.rglob("passages.bin")
    data = file.read_bytes()
    assert prepare.prepared_survey(file.parent, made.sha256)
    for changed in (data[:-1], data[:-1] + b"x", data + b"x"):
        file.write_bytes(changed)
        assert not prepare.prepared_survey(file.parent, made.sha256)


def test_meta_says_what_the_ids_are(write: Write) -> None:
    load_corpus(config_of(write("abba" * 9)), ignore)
    (meta,) = paths.DATA.rglob("meta.json")
    digest = hashlib.sha256(b"abba" * 9).hexdigest()
    ids = bytes([0, 1, 1, 0] * 9)
    assert (meta.parent / "ids.bin").read_bytes() == ids
    assert meta.parent.name == digest[:16]
    said = json.loads(meta.read_text())
    del said["meta_sha256"]  # of the others
    assert said == {
        "alphabet": "ab",
        "lengths": [36],
        "counts": [18, 18],
        "composes": False,
        "sha256": digest,
        "ids_sha256": hashlib.sha256(ids).hexdigest(),
        "passages_sha256": hashlib.sha256(b"").hexdigest(),
    }


def test_what_another_process_prepared_meanwhile_is_not_prepared_again(
    write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It comes to be there between the first look and the lock."""
    path = Path(write("hello world " * 5))
    sha256 = load_corpus(config_of(str(path)), ignore).sha256
    (folder,) = (found.parent for found in paths.DATA.rglob("ids.bin"))
    elsewhere = folder.rename(paths.DATA / "elsewhere")

    @contextmanager
    def lock(place: Path, say: object) -> Iterator[None]:
        elsewhere.rename(folder)
        yield

    monkeypatch.setattr(prepare.files, "lock", lock)
    said: list[str] = []
    source = Source([path], 0.2)
    assert source.sha256 == sha256
    prepare.prepare(source, survey_text([path]), folder, said.append)
    assert said == [], "no second look under the lock"


@pytest.mark.parametrize("content", [b"wold hello " * 6, b"hello World " * 5, b"hell\xf6" * 9, b""])
def test_a_text_that_changes_while_it_is_read(
    write: Write, monkeypatch: pytest.MonkeyPatch, content: bytes
) -> None:
    """Another order of the same characters, another character, no UTF-8 any more, nothing."""
    path = write("hello world " * 5)
    survey = corpus.survey_text

    def change(texts: list[Path]) -> Survey:
        found = survey(texts)
        write(content)
        return found

    monkeypatch.setattr(corpus, "survey_text", change)
    with pytest.raises(Mistake, match=r"changed while it was read|is not UTF-8") as caught:
        load_corpus(config_of(path), ignore)
    assert caught.value.exit_code == Exit.CORPUS
    assert [file.name for file in paths.DATA.rglob("*")] == ["prepared", ".lock"]


IN_LITTLE_MEMORY = """
import resource, sys
from functools import partial
from pathlib import Path
from gpt import paths
from gpt.data import corpus
from gpt.config import Config
from gpt.evaluate import windows

paths.DATA = Path(sys.argv[1]) / "data"
config = Config.model_validate({"data": {"text": f"{sys.argv[1]}/text.txt"}})
(used,) = (int(line.split()[1]) << 10 for line in open("/proc/self/status") if "VmData" in line)
resource.setrlimit(resource.RLIMIT_DATA, (used + (64 << 20),) * 2)  # memory that no file backs
for _ in ("prepared", "known"):
    made = corpus.load_corpus(config, lambda line: None)
    for step in range(100):
        made.batch(step, 0, 12, 128)
    ones = sum(int((tokens == 1).sum()) for tokens, _ in windows(made.val_ids, 128, 2**14))
    print(len(made.ids), ones)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="RLIMIT_DATA means something else elsewhere")
def test_a_text_larger_than_memory(tmp_path: Path) -> None:
    """300 million characters are prepared, drawn from and read through in 64 MB of memory."""
    piece = ("ab" * 499_999 + "é€").encode()
    with (tmp_path / "text.txt").open("wb") as file:
        for _ in range(300):
            file.write(piece)
    command = [sys.executable, "-c", IN_LITTLE_MEMORY, str(tmp_path)]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False)
    expected = f"300000000 {30 * 499_999}\n"  # the validation split is the last 30 pieces
    assert (done.stdout, done.returncode) == (expected * 2, 0), done.stderr
    (ids,) = tmp_path.rglob("ids.bin")
    ids.unlink()  # pytest keeps the folder for a while
    (tmp_path / "text.txt").unlink()


# --- what cannot be learned from ---------------------------------------------------------------


def test_a_pipe_or_device_is_no_text(tmp_path: Path) -> None:
    """Said at once: a pipe would wait for its writer, and /dev/zero has no end."""
    os.mkfifo(tmp_path / "pipe")
    for name in (str(tmp_path / "pipe"), "/dev/zero", "/dev/null"):
        mistake = refused(config_of(name))
        assert mistake.what == f"data.text: {name} is no plain file"
        assert mistake.fix == "give the path of a text file"


def test_a_text_that_becomes_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    """Between the look at it and its opening."""
    os.mkfifo(tmp_path / "text.txt")
    with pytest.raises(Mistake, match="not a plain file") as caught:
        text_sha256([tmp_path / "text.txt"])
    assert caught.value.exit_code == Exit.CORPUS


@pytest.mark.parametrize("name", ["meta.json", "ids.bin", "passages.bin"])
def test_a_pipe_in_place_of_a_prepared_file_is_damage(write: Write, name: str) -> None:
    """The text is prepared anew, and nothing waits for a writer."""
    config = config_of(write("hello world " * 5))
    made = load_corpus(config, ignore)
    (file,) = paths.DATA.rglob(name)
    file.unlink()
    os.mkfifo(file)
    said: list[str] = []
    assert (load_corpus(config, said.append).ids == made.ids).all()
    assert file.is_file()
    assert said[0].startswith("preparing ")


def test_who_prepares_a_text_now_is_said(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    config = config_of(write("hello world " * 5))
    monkeypatch.setattr(files, "WAITS_IN_SILENCE", 0.01)
    said = said_while_locked(paths.DATA / "prepared" / ".lock", partial(load_corpus, config))
    assert said[0].startswith(f"waiting: another process (pid {os.getpid()} on ")
    assert said[1].startswith("preparing ")


@pytest.mark.parametrize(
    ("length", "val_fraction", "train", "val", "most"),
    [(20, 0.2, 16, 4, 3), (20, 0.75, 5, 15, 4), (6, 0.5, 3, 3, 2)],
)
def test_too_short_a_text_with_the_numbers(
    write: Write, length: int, val_fraction: float, train: int, val: int, most: int
) -> None:
    path = write("ab" * (length // 2))
    mistake = refused(config_of(path, block_size=5, val_fraction=val_fraction))
    assert f"{length} characters give {train} for training and {val} for val" in mistake.what
    assert "block_size 5 needs 6 in each" in mistake.what
    assert mistake.fix == f"use a longer text, or --model.block_size {most} or less"
    load_corpus(config_of(path, block_size=most, val_fraction=val_fraction), ignore)  # it is true
    refused_too = config_of(path, block_size=most + 1, val_fraction=val_fraction)
    with pytest.raises(Mistake):
        load_corpus(refused_too, ignore)


@pytest.mark.parametrize("content", [b"", b"\xef\xbb\xbf", b"a", b"ab"])
def test_next_to_no_text(write: Write, content: bytes) -> None:
    mistake = refused(config_of(write(content)))
    assert "too short" in mistake.what
    assert mistake.fix == "use a longer text"


def test_one_distinct_character(write: Write) -> None:
    assert "one distinct character, 'a'" in refused(config_of(write("a" * 100))).what


def test_more_characters_than_ids(write: Write) -> None:
    usable = [chr(point) for point in range(0x20, 0x11000) if not 0xD800 <= point < 0xE000]
    path = write("".join(usable[:65_536]) * 2)
    mistake = refused(config_of(path))
    assert "65536 distinct characters; 65535 is the most" in mistake.what
    write("".join(usable[:65_535]) * 2)
    made = load_corpus(config_of(path), ignore)
    assert made.ids.dtype == np.uint16
    assert made.tokenizer.decode(made.ids[:65_535]) == "".join(usable[:65_535])


# --- batches -----------------------------------------------------------------------------------


def counting(length: int, val_fraction: float = 0.3) -> Corpus:
    """A corpus whose ids are their own places."""
    alphabet = map(chr, range(0x100, 0x100 + length))
    ids = np.arange(length, dtype=np.uint16)
    train_length = split_at(length, val_fraction)
    return Corpus("counting", CharTokenizer(alphabet), ids, "", train_length)


@given(st.integers(2, 400), st.floats(0.01, 0.99))
def test_the_splits_are_the_text_cut_once(length: int, val_fraction: float) -> None:
    made = counting(length, val_fraction)
    assert [*made.train_ids, *made.val_ids] == [*range(length)]
    assert 0 <= len(made.val_ids) - length * val_fraction < 1 + 1e-9  # rounded up


@given(st.integers(0, 10**9), st.integers(0, 2**63 - 1), st.integers(1, 9), st.integers(1, 69))
def test_a_batch_is_rows_of_the_training_text(
    step: int, seed: int, batch_size: int, block_size: int
) -> None:
    made = counting(100)
    tokens, targets = made.batch(step, seed, batch_size, block_size)
    assert tokens.shape == targets.shape == (batch_size, block_size)
    assert tokens.dtype == targets.dtype == np.int64
    assert (targets == tokens + 1).all()
    assert (np.diff(tokens, axis=1) == 1).all()
    assert tokens.min() >= 0
    assert targets.max() < made.train_length == 70
    again = counting(100).batch(step, seed, batch_size, block_size)
    assert np.array_equal(tokens, again[0])


def starts_of(made: Corpus, steps: range, seed: int, batch_size: int) -> list[int]:
    return [
        start for step in steps for start in made.batch(step, seed, batch_size, 4)[0][:, 0].tolist()
    ]


def test_an_epoch_sees_the_training_text_once() -> None:
    made = counting(100)  # 70 characters for training: 16 windows of 4 and what is left over
    epochs = [starts_of(made, range(4 * e, 4 * e + 4), 0, 4) for e in range(20)]
    for starts in epochs:
        assert np.diff(sorted(starts)).tolist() == [4] * 15
    assert len({tuple(np.argsort(starts)) for starts in epochs}) == 20, "an order came twice"
    assert {min(starts) for starts in epochs} == {0, 1, 2, 3, 4, 5}, "an offset is never used"


@given(st.integers(0, 2**63 - 1), st.integers(0, 99), st.integers(1, 3000), st.integers(0, 300))
def test_an_order_is_a_permutation_of_numpys(seed: int, epoch: int, count: int, slack: int) -> None:
    """Kept in the narrowest type, it is still the one that numpy draws."""
    chance = np.random.Generator(np.random.Philox(key=[seed, epoch]))
    offset, order = corpus._shuffled(seed, epoch, count, slack)
    assert offset == chance.integers(slack + 1)
    assert order.tolist() == chance.permutation(count).tolist()


def test_a_training_cannot_change_its_prepared_text(toy_corpus: Corpus) -> None:
    with pytest.raises(ValueError, match="read-only"):
        toy_corpus.ids[0] = 1


def test_the_order_of_one_epoch_is_held_in_memory() -> None:
    """That of a large text takes megabytes."""
    counting(100).batch(0, seed=0, batch_size=100, block_size=4)  # six epochs
    assert corpus._shuffled.cache_info().currsize == 1


def test_a_text_of_many_gigabytes_is_seen_once() -> None:
    ids = np.broadcast_to(np.uint8(0), (10**11,))
    made = Corpus("vast", CharTokenizer("ab"), ids, "", split_at(len(ids), 0.1))
    block_size = 2**20
    count = (made.train_length - 1 - block_size) // block_size
    starts = np.sort(made._starts(np.arange(count), 0, block_size))
    assert (np.diff(starts) == block_size).all()
    assert starts[0] >= 0
    assert starts[-1] + block_size < made.train_length


@given(st.integers(1, 40))
def test_the_batch_size_cuts_the_same_row_of_windows(batch_size: int) -> None:
    one_by_one = starts_of(counting(100), range(2 * batch_size), 3, 1)
    assert starts_of(counting(100), range(2), 3, batch_size) == one_by_one


def test_another_seed_is_another_order() -> None:
    made = counting(100)
    assert starts_of(made, range(4), 0, 4) != starts_of(made, range(4), 1, 4)


def test_a_batch_draws_from_no_shared_generator() -> None:
    state = np.random.get_state()[1].tolist()
    counting(100).batch(0, 0, 8, 4)
    assert np.random.get_state()[1].tolist() == state


def test_the_shortest_training_text_has_one_row() -> None:
    tokens, targets = counting(10).batch(0, 0, 3, 6)  # 7 characters for training
    assert tokens.tolist() == [[0, 1, 2, 3, 4, 5]] * 3
    assert targets.tolist() == [[1, 2, 3, 4, 5, 6]] * 3
