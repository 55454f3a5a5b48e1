"""Checkpoints that are damaged, or made by somebody else: G5 and G8. See SECURITY.md."""

import json
import math
import os
import pickle
import random
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from faults import Workshop
from safetensors.torch import load, save
from torch import Tensor

import gpt.paths
import gpt.storage.manifest
import gpt.storage.run_directory
from gpt.config import Config
from gpt.data.tokenizer import CharTokenizer
from gpt.errors import Exit, Mistake
from gpt.model import GPT
from gpt.optim import make_optimizers, optimizer_state
from gpt.storage.checkpoint import Checkpoint, Progress, load_checkpoint, save_checkpoint
from gpt.storage.find import find_checkpoint, load_best, load_last
from gpt.storage.run_directory import set_aside

GOLDEN = Path(__file__).parent / "golden" / "format-1"


def a_checkpoint(step: int = 1, val_loss: float | None = 1.5, **model: Any) -> Checkpoint:
    """A trained model of 150 numbers."""
    sizes = {"n_layer": 1, "n_embd": 2, "n_head": 1, "block_size": 4, "norm": "none"} | model
    config = Config.model_validate({"model": sizes, "log": {"keep": 0}})
    tokenizer = CharTokenizer("abc\n")
    torch.manual_seed(1)
    network = GPT(config.model, len(tokenizer))
    optimizers = make_optimizers(network, config.train)
    network(torch.tensor([[0, 1, 2, 3]])).logsumexp(-1).mean().backward()
    for optimizer in optimizers:
        optimizer.step()
    averages = optimizer_state(network, optimizers)
    progress = Progress(step=step, val_loss=val_loss)
    return Checkpoint(config, tokenizer, progress, network.state_dict(), averages)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return save_checkpoint(tmp_path / "run", a_checkpoint())


def refusal(path: Path) -> str:
    """What is said when `path` is refused."""
    with pytest.raises(Mistake) as caught:
        load_checkpoint(path)
    assert caught.value.exit_code == Exit.CHECKPOINT
    assert str(path) in caught.value.what
    return caught.value.what


def seal(path: Path, **changes: Any) -> None:
    """Make the manifest consistent with what the files are now."""
    body = json.loads((path / "manifest.json").read_bytes()) | changes
    names = sorted(item.name for item in path.iterdir() if item.name != "manifest.json")
    body["files"] = {
        name: gpt.storage.manifest._fingerprint((path / name).read_bytes()) for name in names
    }
    body.pop("seal", None)
    (path / "manifest.json").write_bytes(gpt.storage.manifest._sealed(body))


# --- damage ------------------------------------------------------------------------------------


def accepted(path: Path, offsets: Callable[[int], range], cut: bool) -> Iterator[str]:
    """Damages that are not refused by the file's name: a byte changed, or all from there cut."""
    chance = random.Random(1)
    for file in sorted(path.iterdir()):
        data = file.read_bytes()
        for offset in offsets(len(data)):
            changed = bytes([data[offset] ^ chance.randrange(1, 256)])
            file.write_bytes(data[:offset] + (b"" if cut else changed + data[offset + 1 :]))
            try:
                load_checkpoint(path)
            except Mistake as mistake:
                if mistake.exit_code == Exit.CHECKPOINT and file.name in mistake.what:
                    continue
            yield f"{file.name} at {offset}"
        file.write_bytes(data)


@pytest.mark.parametrize("cut", [False, True])
def test_damage_at_any_tenth_byte_is_refused(path: Path, cut: bool) -> None:
    assert list(accepted(path, lambda size: range(0, size, 10), cut)) == []
    load_checkpoint(path)


@pytest.mark.slow
@pytest.mark.parametrize("cut", [False, True])
def test_damage_at_any_byte_is_refused(path: Path, cut: bool) -> None:
    assert list(accepted(path, range, cut)) == []
    load_checkpoint(path)


def test_the_sweep_finds_a_manifest_that_is_not_held_against_the_files(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Anything(dict[str, Any]):
        __ne__ = lambda self, other: False  # noqa: E731
        __eq__ = lambda self, other: True  # noqa: E731
        __hash__ = None  # type: ignore[assignment]

    monkeypatch.setattr(gpt.storage.manifest, "_fingerprint", lambda data: Anything())
    assert any("model" in place for place in accepted(path, lambda n: range(0, n, 50), cut=False))


def test_files_that_are_missing_added_or_longer(path: Path) -> None:
    for file in sorted(path.iterdir()):
        data = file.read_bytes()
        file.unlink()
        assert file.name in refusal(path)
        file.write_bytes(data + b"\0")
        assert file.name in refusal(path)
        file.write_bytes(data)
    for name in ("notes.txt", ".hidden", "evil.pkl", "model.safetensors.bak"):
        (path / name).write_bytes(b"")
        assert name in refusal(path)
        (path / name).unlink()
    load_checkpoint(path)


def test_a_checkpoint_under_another_steps_name(path: Path) -> None:
    assert "step 1" in refusal(path.rename(path.with_name("step-000002")))
    load_checkpoint((path.parent / "step-000002").rename(path.parent / "my-model"))


def test_a_stopped_checkpoint_is_not_taken_for_one_after_its_evaluation(path: Path) -> None:
    stopped = path.rename(path.with_name("step-000001-stopped"))
    assert "it is step-000001" in refusal(stopped)
    owing = a_checkpoint()
    owing.progress.owes_evaluation = True
    saved = save_checkpoint(path.parents[2] / "other", owing)
    assert saved.name == "step-000001-stopped"
    assert load_checkpoint(saved).progress == owing.progress
    assert "it is step-000001-stopped" in refusal(saved.rename(path))
    assert "step 1" in refusal(path.rename(path.with_name("step-000002-stopped")))


def test_special_files_are_not_read(path: Path) -> None:
    file = path / "model.safetensors"
    file.unlink()
    file.symlink_to("/dev/zero")
    assert file.name in refusal(path)
    file.unlink()
    os.mkfifo(file)
    assert file.name in refusal(path)
    file.unlink()
    file.mkdir()
    assert file.name in refusal(path)


def test_the_newest_damaged_goes_on_from_the_one_before(tmp_path: Path) -> None:
    run, said = tmp_path / "run", list[str]()
    for step in (10, 20):
        save_checkpoint(run, a_checkpoint(step, val_loss=2.0 - step / 100))
    (run / "checkpoints/step-000020/model.safetensors").write_bytes(b"")
    assert load_last(run, said.append).progress.step == 10
    assert "steps 11 to 20 are lost" in said[0]
    assert load_best(run, said.append).progress.step == 10
    set_aside(run, "step-000010")
    save_checkpoint(run, a_checkpoint(20))
    assert load_last(run, said.append).progress.step == 20
    assert (run / "checkpoints" / "damaged-step-000020").is_dir()


def test_a_run_goes_on_from_before_the_damage_to_the_same_end(tmp_path: Path) -> None:
    shop = Workshop(tmp_path, steps=4)
    shop.train_here(shop.fresh(tmp_path / "whole"))
    run = tmp_path / "run"
    shop.train_here(shop.fresh(run, "--log.keep", "0"))
    for step in (3, 4):
        (run / f"checkpoints/step-00000{step}/optimizer.safetensors").write_bytes(b"torn")
    ended = shop.train_here(["--resume", str(run), "--log.keep", "1"])
    assert ended.code == 0
    assert "going on from step 2, steps 3 to 4 are lost" in ended.output
    weights = [
        run / "checkpoints/step-000004/model.safetensors" for run in (run, tmp_path / "whole")
    ]
    assert weights[0].read_bytes() == weights[1].read_bytes()


def test_all_damaged_is_never_a_fresh_start(tmp_path: Path) -> None:
    shop, run = Workshop(tmp_path), tmp_path / "run"
    shop.train_here(shop.fresh(run))
    for path in gpt.storage.run_directory.checkpoints_of(run):
        (path / "vocabulary.json").unlink()
    before = sorted(run.rglob("*"))
    ended = shop.train_here(["--resume", str(run)])
    assert ended.code == 4
    assert "vocabulary.json is missing" in ended.output
    assert "no checkpoint of this run is whole" in ended.output
    assert shop.train_here(shop.fresh(run)).code == 7
    assert sorted(run.rglob("*")) == before


def test_a_missing_path_lists_what_there_is(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpt.paths, "RUNS", path.parents[2])
    for name in ("nothing", str(path.with_name("step-000009"))):
        with pytest.raises(Mistake) as caught:
            find_checkpoint(name, print)
        assert caught.value.exit_code == Exit.CHECKPOINT
        assert "run" in caught.value.fix or "step-000001" in caught.value.fix


# --- checkpoints by strangers, each file consistent with the manifest ---------------------------


class RunsACommand:
    def __reduce__(self) -> tuple[Any, ...]:
        return (os.mkdir, ("pwned",))


def edited(name: str, edit: Callable[[Any], Any]) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        value = json.loads((path / name).read_bytes())
        (path / name).write_text(json.dumps(edit(value)))

    return change


def put(name: str, data: bytes) -> Callable[[Path], None]:
    return lambda path: (path / name).write_bytes(data) and None


def retensored(
    edit: Callable[[dict[str, Tensor]], dict[str, Tensor]], name: str = "model"
) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        file = path / f"{name}.safetensors"
        file.write_bytes(save(edit(load(file.read_bytes()))))

    return change


def model_config(**keys: Any) -> Callable[[Path], None]:
    return edited("config.json", lambda config: config | {"model": config["model"] | keys})


DEEP = b"[" * 100_000 + b"]" * 100_000
HOSTILE = {
    "a pickle for weights": (put("model.safetensors", pickle.dumps(RunsACommand())), "model.saf"),
    "a pickle for JSON": (put("training.json", pickle.dumps(RunsACommand())), "training.json"),
    "a huge header": (put("model.safetensors", struct.pack("<Q", 2**60) + b"{}"), "model.saf"),
    "a header of 99 MB": (put("model.safetensors", struct.pack("<Q", 99_000_000)), "model.saf"),
    "no bytes": (put("model.safetensors", b""), "model.safetensors"),
    "NaN": (retensored(lambda t: {n: x * math.nan for n, x in t.items()}), "finite"),
    "64-bit": (retensored(lambda t: {n: x.double() for n, x in t.items()}), "model.safetensors"),
    "a weight too few": (retensored(lambda t: dict(list(t.items())[1:])), "model.safetensors"),
    "a weight too many": (retensored(lambda t: t | {"blocks.7.x": torch.ones(1)}), "n_layer"),
    "a strange weight": (retensored(lambda t: t | {"x": torch.ones(1)}), "x is 1, not missing"),
    "averages of nothing": (
        retensored(lambda t: {"a/b/c": torch.ones(1)}, "optimizer"), "optimizer"),
    "half of the averages": (
        retensored(lambda t: dict(list(t.items())[::2]), "optimizer"), "optimizer.safetensors"),
    "infinite averages": (
        retensored(lambda t: {n: x / 0 for n, x in t.items()}, "optimizer"), "optimizer"),
    "a huge width": (model_config(n_embd=65536), "model.n_embd"),
    "a huge context": (model_config(block_size=2**20), "model.block_size"),
    "a thousand layers": (model_config(n_layer=1000), "model.n_layer"),
    "huge tables": (
        model_config(block_size=2**20, n_layer=1000, positions="rotary"), "config.json"),
    "another width": (model_config(n_embd=4), "model.n_embd is 4, not 2"),
    "another kind of layer": (model_config(feed_forward="none"), "model.safetensors"),
    "a shift of nothing": (model_config(token_shift=True), "token_shift is missing, not 2"),
    "an unknown key": (model_config(evil=1), "config.json"),
    "a wrong type": (model_config(n_layer="1"), "config.json"),
    "infinity in the config": (model_config(dropout=math.inf), "config.json"),
    "deep config": (put("config.json", DEEP), "config.json"),
    "no config": (put("config.json", b"null"), "config.json"),
    "deep vocabulary": (put("vocabulary.json", DEEP), "vocabulary.json"),
    "a list": (put("vocabulary.json", b'["a", "b", "c", "\\n"]'), "vocabulary.json"),
    "numbers": (put("vocabulary.json", b"[1, 2, 3, 4]"), "vocabulary.json"),
    "not sorted": (put("vocabulary.json", b'"cba\\n"'), "vocabulary.json"),
    "twice the same": (put("vocabulary.json", b'"aabc"'), "vocabulary.json"),
    "half a character": (put("vocabulary.json", b'"abc\\ud800"'), "vocabulary.json"),
    "an empty alphabet": (put("vocabulary.json", b'""'), "vocabulary.json"),
    "a longer alphabet": (put("vocabulary.json", b'"abcd\\u00e9"'), "vocabulary.json"),
    "not UTF-8": (put("vocabulary.json", b'"\xff"'), "vocabulary.json"),
    "deep training": (put("training.json", DEEP), "training.json"),
    "a list of progress": (put("training.json", b"[1, 2]"), "training.json"),
    "a step in words": (edited("training.json", lambda p: p | {"step": "one"}), "training.json"),
    "a negative step": (edited("training.json", lambda p: p | {"step": -1}), "training.json"),
    "an endless step": (edited("training.json", lambda p: p | {"step": 10**30}), "training.json"),
    "another step": (edited("training.json", lambda p: p | {"step": 2}), "training.json"),
    "a loss of NaN": (edited("training.json", lambda p: p | {"loss_sum": math.nan}), "training"),
    "a minus count": (edited("training.json", lambda p: p | {"loss_count": -1}), "training.json"),
    "a deep identity": (edited("training.json", lambda p: p | {"identity": {"": []}}), "training"),
    "more progress": (edited("training.json", lambda p: p | {"more": 1}), "training.json"),
    "a foreign file": (put("more.json", b"{}"), ""),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_what_a_stranger_made_is_refused_by_name(
    path: Path, name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    change, named = HOSTILE[name]
    change(path)
    seal(path)
    if not named:
        load_checkpoint(path)  # it is hashed like the others; nothing reads it
        return
    assert named in refusal(path)
    assert not (tmp_path / "pwned").exists()


@pytest.mark.parametrize(
    "body",
    [
        b"", b"null", b"[]", b"{}", DEEP, b'{"format": 1}', b'{"format": [], "files": {}}',
        b'{"format": 1, "step": "x", "files": {}}', b'{"format": 1, "step": 1, "files": []}',
        b'{"format": 1, "step": 1, "files": {"../../x": {}}}', b"\xff", pickle.dumps(1),
        b'{"format": 1, "step": ' + b"9" * 5000 + b', "files": {}}',
        b'{"format": 1, "step": 1, "files": {"a.json": {"bytes": "many"}}}',
        b'{"format": 1, "step": 1, "files": {"/dev/zero": {"bytes": 9}}}',
    ],
)  # fmt: skip
def test_manifests_of_strangers(path: Path, body: bytes) -> None:
    (path / "manifest.json").write_bytes(body)
    assert "manifest.json" in refusal(path)
    try:
        sealed = gpt.storage.manifest._sealed(json.loads(body))
    except (ValueError, TypeError, RecursionError):
        return
    (path / "manifest.json").write_bytes(sealed)
    assert "manifest.json" in refusal(path) or "missing" in refusal(path)


def test_a_newer_format_is_named(path: Path) -> None:
    seal(path, format=2)
    assert "format 2, not 1" in refusal(path)


def test_what_a_stranger_wrote_cannot_repaint_the_terminal(tmp_path: Path) -> None:
    shop, run = Workshop(tmp_path), tmp_path / "run"
    shop.train_here(shop.fresh(run))
    path = gpt.storage.run_directory.checkpoints_of(run)[-1]
    edited("training.json", lambda p: p | {"identity": {"torch": "\x1b[2J"}})(path)
    seal(path)
    ended = shop.train_here(["--resume", str(run)])
    assert "\\x1b[2J" in ended.output
    assert "\x1b" not in ended.output


def test_a_strangers_checkpoint_is_small_however_large_it_says_it_is(path: Path) -> None:
    import tracemalloc

    for name in ("a huge width", "a huge context", "a thousand layers", "huge tables"):
        HOSTILE[name][0](path)
        seal(path)
        tracemalloc.start()
        refusal(path)
        assert tracemalloc.get_traced_memory()[1] < 2**24
        tracemalloc.stop()


# --- the format stays readable -------------------------------------------------------------


def test_a_checkpoint_of_format_1_always_loads() -> None:
    checkpoint = load_checkpoint(GOLDEN / "step-000001")
    assert checkpoint.tokenizer.alphabet == "\nabc"
    assert checkpoint.progress.step == 1
    assert checkpoint.progress.val_loss == 1.5
    assert len(checkpoint.optimizer_state) == 3 * len(checkpoint.weights)
    logits = checkpoint.make_model()(torch.tensor([[0, 1, 2, 3]]))
    expected = json.loads((GOLDEN / "logits.json").read_text())
    torch.testing.assert_close(logits[0, -1], torch.tensor(expected))


def test_a_resumed_run_writes_in_its_own_directory_alone(tmp_path: Path) -> None:
    """Though its config names another one."""
    shop, run = Workshop(tmp_path), tmp_path / "theirs"
    shop.train_here(shop.fresh(tmp_path / "run"))
    (tmp_path / "run").rename(run)
    path = gpt.storage.run_directory.checkpoints_of(run)[-1]
    edited("config.json", lambda config: config | {"run": {"dir": str(tmp_path / "other")}})(path)
    seal(path)
    before = {item for item in tmp_path.rglob("*") if run not in item.parents}
    assert shop.train_here(["--resume", str(run), "--train.max_steps", "5"]).code == 0
    assert {item for item in tmp_path.rglob("*") if run not in item.parents} == before


@pytest.mark.parametrize(
    "name", ["metrics.jsonl", "checkpoints", "config.yaml", "best", "00004", "00004/x", "fifo"]
)
def test_a_run_that_leads_elsewhere_is_not_resumed(tmp_path: Path, name: str) -> None:
    shop, run = Workshop(tmp_path), tmp_path / "run"
    shop.train_here(shop.fresh(run))
    place, outside = run / name, tmp_path / "outside"
    place.parent.mkdir(exist_ok=True)
    if name == "fifo":
        os.mkfifo(place)
    else:
        if place.exists():
            place.rename(outside)
        place.symlink_to(outside)
    before = {item for item in tmp_path.rglob("*") if run not in item.parents}
    ended = shop.train_here(["--resume", str(run), "--train.max_steps", "5"])
    assert ended.code == Exit.CHECKPOINT
    assert {item for item in tmp_path.rglob("*") if run not in item.parents} == before


def test_a_link_to_nowhere_is_a_damaged_checkpoint(path: Path) -> None:
    (path.parent / "step-000002").symlink_to("nowhere")
    said: list[str] = []
    assert load_last(path.parents[1], said.append).progress.step == 1
    assert "step-000002" in said[0]
    assert load_best(path.parents[1], said.append).progress.step == 1


def test_a_resume_that_is_refused_has_changed_nothing(tmp_path: Path) -> None:
    shop, run = Workshop(tmp_path), tmp_path / "run"
    shop.train_here(shop.fresh(run))
    newest = gpt.storage.run_directory.checkpoints_of(run)[-1]
    (newest / "model.safetensors").write_bytes(b"damaged")

    def content() -> dict[Path, bytes | bool]:
        items = set(run.rglob("*")) - {run / ".lock"}  # says who held it last, and when
        return {item: item.is_file() and item.read_bytes() for item in items}

    before = content()
    flags = ["--resume", str(run), "--exact", "--train.learning_rate", "0.5"]
    assert shop.train_here(flags).code == Exit.CHECKPOINT
    assert content() == before


def test_the_name_of_a_checkpoint_alone_is_no_place(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(path.parents[1])
    with pytest.raises(Mistake, match="no checkpoint step-000001"):
        find_checkpoint("step-000001", lambda line: None)


def test_a_pickle_of_torch_is_no_checkpoint(path: Path) -> None:
    torch.save({"model": RunsACommand()}, path / "model.pt")
    assert "model.pt" in refusal(path)
    (path / "model.pt").rename(path / "model.safetensors")
    seal(path)
    assert "model.safetensors" in refusal(path)
    assert not Path("pwned").exists()
