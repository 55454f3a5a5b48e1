"""The page as a file: what is in it, what is not, and what the command says."""

import base64
import errno
import json
import os
import re
import stat
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from attention_models import VARIANTS, build
from explorer_pages import (
    LETTERS,
    TEXT,
    TORTURE_TEXT,
    checkpoint_of,
    exhibit_of,
    rounded,
    torture_exhibit,
)

from gpt import files
from gpt import model as model_py
from gpt.errors import Exit, Mistake
from gpt.explorer import export, lines
from gpt.storage.checkpoint import save_checkpoint
from scripts import explore

SCRIPT = Path(explore.__file__)


def data_of(page: str) -> dict:
    [data] = re.findall(r'<script type="application/json" id="data">(.*?)</script>', page, re.S)
    return json.loads(data)


def unpacked(packed: str) -> np.ndarray:
    planes = np.frombuffer(zlib.decompress(base64.b64decode(packed)), np.uint8).reshape(2, -1)
    return np.ascontiguousarray(planes.T).view("<f2")[:, 0]


@pytest.fixture
def run(tmp_path):
    exhibit = exhibit_of("gpt", history=3)
    for checkpoint in (*exhibit.history, exhibit.checkpoint):
        checkpoint.config = checkpoint.config.model_copy(
            update={"log": checkpoint.config.log.model_copy(update={"keep": 0})}
        )
        save_checkpoint(tmp_path / "run", checkpoint)
    return tmp_path / "run"


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_weight_travels_in_16_bits(variant):
    exhibit = exhibit_of(variant)
    weights = data_of(export.html(exhibit))["weights"]
    model = rounded(exhibit.checkpoint)
    assert weights["sizes"] == [[name, p.numel()] for name, p in model.named_parameters()]
    expected = torch.cat([parameter.detach().flatten() for parameter in model.parameters()])
    assert np.array_equal(unpacked(weights["numbers"]).astype(np.float32), expected.numpy())


def test_nothing_in_text_or_name_ends_the_script_that_holds_it():
    exhibit = torture_exhibit()
    page = export.html(exhibit)
    data = data_of(page)
    assert (data["text"], data["run"]) == (TORTURE_TEXT, exhibit.name)
    assert "".join(map(chr, data["alphabet"])) == exhibit.checkpoint.tokenizer.alphabet
    assert page.count("</script>") == 2
    assert page.isascii() or not {"\u2028", "\u202e", "😀"} & set(page)


def test_page_asks_nothing_of_the_network_and_nothing_of_chance():
    page = export.html(exhibit_of("modern"))
    assert not re.search(r"https?:|//[a-z]+\.|@import|Math\.random|innerHTML|eval\(", page)
    assert "default-src 'none'" in page


def test_policy_allows_this_script_and_this_style_alone():
    page = export.html(exhibit_of("modern"))
    digests = re.findall(r"'(sha256-[^']+)'", page)
    script, style = export.script(), export.read("page.css")
    assert digests == [export.digest(script), export.digest(style)]
    assert f'<script type="module">{script}</script>' in page
    assert f"<style>{style}</style>" in page


def test_reference_is_what_torch_says_of_the_rounded_weights():
    exhibit = exhibit_of("modern")
    reference = data_of(export.html(exhibit))["reference"]
    tokens = torch.from_numpy(exhibit.checkpoint.tokenizer.encode(TEXT).astype(np.int64))[None]
    logits = export.logits_of(rounded(exhibit.checkpoint), tokens)
    assert base64.b64decode(reference["logits"]) == logits.numpy().tobytes()
    exact = export.logits_of(exhibit.checkpoint.make_model(), tokens)
    assert reference["rounding"] == (logits - exact).abs().max().item() > 0


def test_larger_model_sends_the_numbers_of_its_text_instead_of_its_weights():
    exhibit = exhibit_of("gpt")
    data = export.page_data(exhibit, most_parameters=1000)
    assert "weights" not in data
    config = exhibit.checkpoint.config.model
    vectors, logits = 3 * config.n_layer * len(TEXT) * config.n_embd, len(TEXT) * 11
    assert unpacked(data["trace"]).size == vectors + logits


def test_statements_of_the_model_are_found_in_it():
    source = Path(model_py.__file__).read_text("utf-8").splitlines()
    found = lines.source_lines()
    for name, (_, start) in lines.STATEMENTS.items():
        assert source[found[name]["number"] - 1].strip().startswith(start)
    assert found["score"]["text"] == "scores = (q * D**-0.5) @ k.transpose(-2, -1)"
    assert found["mask"]["text"] == "scores = scores + future"


@pytest.mark.parametrize(("start", "count"), [("scores = gone", 0), ("scores", 2)])
def test_a_statement_that_is_not_there_is_named(start, count):
    message = f"{count} statements of attend start with '{start}', not 1"
    with pytest.raises(ValueError, match=message):
        lines.find_statement(model_py.attend, start)


def test_other_checkpoints_come_along(run):
    exhibit = export.find_exhibit(str(run), TEXT, say=print)
    steps = [other.progress.step for other in exhibit.history]
    assert [*steps, exhibit.checkpoint.progress.step] == [80, 90, 100, 70]  # all lose alike
    size = 2 * 2 * len(TEXT) ** 2 + len(TEXT) * 11
    for saved in export.page_data(exhibit)["history"]:
        assert unpacked(saved["numbers"]).size == size


def test_damaged_checkpoint_is_left_out_with_a_word(run):
    (run / "checkpoints" / "step-000090" / "model.safetensors").write_bytes(b"")
    said: list[str] = []
    exhibit = export.find_exhibit(str(run), TEXT, said.append)
    assert 90 not in {other.progress.step for other in exhibit.history}
    assert "step-000090" in said[0]


@pytest.mark.parametrize(
    ("text", "message"),
    [("a bax", "'x' (U+0078), character 5"), ("", "empty"), ("a" * 13, "13 characters")],
)
def test_text_that_the_model_cannot_read_is_a_mistake_of_use(run, text, message):
    with pytest.raises(Mistake, match=re.escape(message)) as caught:
        export.find_exhibit(str(run), text, say=print)
    assert caught.value.exit_code == Exit.USAGE


def test_without_a_text_the_run_s_own_is_shown(run):
    assert export.find_exhibit(str(run), None, say=print).text == "\n f ha igh h"


@pytest.fixture
def far_sighted(tmp_path):
    """A small checkpoint that claims to see a million characters and was watched on very many."""
    variant = {**VARIANTS["modern"], "block_size": 2**20}
    checkpoint = checkpoint_of(build(variant), LETTERS)
    log = checkpoint.config.log.model_copy(update={"probe": "abcd " * 20_000})
    checkpoint.config = checkpoint.config.model_copy(update={"log": log})
    return save_checkpoint(tmp_path / "far", checkpoint)


def test_a_page_opens_with_no_more_text_than_it_can_show(far_sighted):
    text = export.find_exhibit(str(far_sighted), None, say=print).text
    assert text == ("abcd " * 20_000)[: export.MOST_TEXT]


def test_a_text_that_is_longer_than_a_page_shows_is_refused(far_sighted):
    most = export.MOST_TEXT
    assert export.find_exhibit(str(far_sighted), "a" * most, say=print).text == "a" * most
    message = f"the text has {most + 1} characters, {most} is the most"
    with pytest.raises(Mistake, match=message) as caught:
        export.find_exhibit(str(far_sighted), "a" * (most + 1), say=print)
    assert caught.value.exit_code == Exit.USAGE


def test_command_writes_the_file_and_says_where(run, tmp_path, capsys):
    out = tmp_path / "page.html"
    assert explore.main([str(run), "--text", TEXT, "--out", str(out)]) == Exit.DONE
    printed = capsys.readouterr()
    assert printed.out == ""
    assert str(out) in printed.err
    assert "MB" in printed.err
    assert data_of(out.read_text("utf-8"))["run"] == "run"


def test_unwritable_file_is_a_mistake_of_storage(run, tmp_path):
    with pytest.raises(Mistake) as caught:
        explore.main([str(run), "--out", str(tmp_path / "none" / "page.html")])
    assert caught.value.exit_code == Exit.STORAGE


def test_weights_beyond_16_bits_are_refused_in_words(tmp_path):
    checkpoint = exhibit_of("gpt").checkpoint
    next(iter(checkpoint.weights.values())).flatten()[0] = 1e6
    save_checkpoint(tmp_path / "wild", checkpoint)
    with pytest.raises(Mistake, match="beyond 16-bit floats") as caught:
        explore.main([str(tmp_path / "wild"), "--out", str(tmp_path / "page.html")])
    assert caught.value.exit_code == Exit.CHECKPOINT


def test_a_step_beyond_16_bits_is_left_out_alone():
    exhibit = exhibit_of("gpt", history=2)
    exhibit.history[0].weights["token_embedding.weight"][:] = 1e38
    steps = [saved["step"] for saved in export.page_data(exhibit)["history"]]
    assert steps == [exhibit.history[1].progress.step]


def put(kind: str, path: Path) -> None:
    """Something at `path` that is no plain file."""
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "directory":
        path.mkdir()
    elif kind == "device":
        try:
            os.mknod(path, stat.S_IFCHR | 0o600, os.makedev(1, 3))  # another /dev/null
        except PermissionError:
            pytest.skip("only root makes devices")
    else:
        path.symlink_to({"link": "page.html", "dangling link": "nowhere"}[kind])


@pytest.mark.parametrize("kind", ["pipe", "device", "directory", "link", "dangling link"])
def test_only_a_plain_file_is_replaced(run, tmp_path, kind):
    (tmp_path / "page.html").write_bytes(b"mine")
    out = tmp_path / "out"
    put(kind, out)
    before, names = out.lstat(), sorted(tmp_path.iterdir())
    with pytest.raises(Mistake, match=re.escape(f"cannot write {out}: it is a ")) as caught:
        explore.main([str(run), "--out", str(out)])
    assert (caught.value.exit_code, bool(caught.value.fix)) == (Exit.STORAGE, True)
    assert (out.lstat().st_ino, out.lstat().st_mode) == (before.st_ino, before.st_mode)
    assert (tmp_path / "page.html").read_bytes() == b"mine"
    assert sorted(tmp_path.iterdir()) == names


@pytest.mark.parametrize(
    ("out", "code"), [("", Exit.USAGE), (".", Exit.STORAGE), ("..", Exit.STORAGE)]
)
def test_what_names_no_file_is_refused(run, out, code):
    with pytest.raises(Mistake) as caught:
        explore.main([str(run), "--out", out])
    assert caught.value.exit_code == code


def test_a_dash_is_stdout(run, tmp_path, monkeypatch, capfdbinary):
    monkeypatch.chdir(tmp_path)
    assert explore.main([str(run), "--text", TEXT, "--out", "-"]) == Exit.DONE
    sys.stdout.flush()
    printed = capfdbinary.readouterr()
    assert data_of(printed.out.decode())["run"] == "run"
    assert printed.err == b""
    assert not (tmp_path / "-").exists()


def test_a_reader_of_stdout_may_stop_reading(run):
    command = [sys.executable, str(SCRIPT), str(run), "--text", TEXT, "--out", "-"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.close()
        said = process.stderr.read()
    assert (process.returncode, said) == (Exit.DONE, b"")


@pytest.mark.parametrize("operation", ["write", "fsync", "replace"])
def test_a_disk_that_fills_up_leaves_the_old_page_and_nothing_else(
    run, tmp_path, monkeypatch, operation
):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    out = tmp_path / "page.html"
    out.write_bytes(b"old")
    monkeypatch.setattr(files.os, operation, full)
    with pytest.raises(Mistake, match="No space left") as caught:
        explore.main([str(run), "--out", str(out)])
    monkeypatch.undo()
    assert caught.value.exit_code == Exit.STORAGE
    assert out.read_bytes() == b"old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["page.html", "run"]


def test_help_needs_no_torch():
    code = (
        "import runpy, sys; sys.argv = ['explore.py', '--help']\n"
        f"try: runpy.run_path({str(SCRIPT)!r}, run_name='__main__')\n"
        "except SystemExit: print('torch' in sys.modules)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.stdout.splitlines()[-1] == "False"
