"""What a run's bytes depend on beside its config, and what of it changed when the run goes on."""

import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from gpt.command.config_file import is_changeable, load_config
from gpt.config import Config, fields
from gpt.data.corpus import Corpus, load_corpus
from gpt.data.shares import Source
from gpt.data.sources import abbreviated, own_texts
from gpt.data.text import text_sha256
from gpt.device import device_name, find_device, uses_bf16
from gpt.errors import Exit, Mistake
from gpt.optim import lr_factor
from gpt.processes import Processes
from gpt.storage.checkpoint import Checkpoint


def identity(config: Config, corpus: Corpus, processes: Processes) -> dict[str, str | int | bool]:
    """What a run's bytes depend on, beside its config."""
    device = find_device(config.train.device)
    found: dict[str, str | int | bool] = {
        "corpus": corpus.sha256,
        "torch": torch.__version__,
        "numpy": np.__version__,  # draws the batches
        "device": device_name(device),
        "cpu": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
        "bf16": uses_bf16(config),
        "mode": "compiled" if config.train.compile else "eager",
        "processes": processes.size,
    }
    if device.type == "cuda":
        found["cudnn"] = torch.backends.cudnn.version() or 0
    if processes.backend == "nccl":
        found["reduced by"] = processes.backend
    return found


def config_of(
    run: Path,
    checkpoint: Checkpoint,
    change: Callable[[Config], Config],
    say: Callable[[str], None],
) -> Config:
    """The config of a run that goes on: that of its config.yaml, so what one reads there runs.

    A session may end after it wrote config.yaml and before it saved. So settings that a resume may
    change are config.yaml's; all others, and the text unless `change` names it, must be the
    checkpoint's too.

    Args:
        change: applies what the user changes now.

    Raises:
        Mistake: with exit code 4 if they disagree; 2 if config.yaml is no config.
    """
    path, saved = run / "config.yaml", checkpoint.config
    if not path.exists():  # killed before its first session wrote it
        say(f"there is no {path}; the settings are those of the checkpoint")
        return change(saved)
    try:
        written = load_config(path)
    except Mistake as mistake:
        fix = "restore it, or remove it to go on with the checkpoint's settings"
        raise Mistake(mistake.exit_code, mistake.what, fix) from None
    # the command names the text, or both configs name the same
    text_settled = change(saved).data.text == change(written).data.text
    for key in _differing(saved, written):
        before, now = _value(saved, key), _value(written, key)
        if key == "data.text" and text_settled:
            continue
        if key == "data.text" or not is_changeable(key):
            what = f"{path} says {key} {now!r}, but the checkpoint {before!r}"
            way = "give --data.text PATH" if key == "data.text" else "restore config.yaml"
            raise Mistake(
                Exit.CHECKPOINT, what, f"leave a stranger's run alone; if it is yours, {way}"
            )
        say(f"{path} changes {key}: {before!r} -> {now!r}")
    return change(saved.model_copy(update={"train": written.train, "log": written.log}))


def _differing(one: Config, other: Config) -> list[str]:
    """The keys in which two configs of a run differ, but run.dir, which the command gives."""
    keys = [key for key in fields() if key != "run.dir"]
    return [key for key in keys if _value(one, key) != _value(other, key)]


def _value(config: Config, key: str) -> object:
    section, name = key.split(".")
    return getattr(getattr(config, section), name)


def corpus_of(checkpoint: Checkpoint, config: Config, say: Callable[[str], None]) -> Corpus:
    """The corpus of a run, whose text `config` may name in another place than the run's config.

    Raises:
        Mistake: with exit code 3 if the text is not there, if it is named anew and is another one,
            or if its alphabet is not the run's.
    """
    text = config.data.text
    if text is not None:
        is_moved = text != checkpoint.config.data.text
        if not is_moved:  # nobody named it today
            say(f"the run's text: {abbreviated([text] if isinstance(text, str) else text)}")
        texts = own_texts(text, fix="give --data.text PATH (the same text, moved)")
        known = checkpoint.progress.identity.get("corpus")
        found = Source(texts, config.data.val_fraction).sha256 if is_moved or texts[1:] else known
        names = abbreviated([str(path) for path in texts])
        if found != known == text_sha256(texts):
            what = f"{names}: the run read them as one text, only whose end it kept for validation"
            together = " ".join(shlex.quote(str(path)) for path in texts)
            fix = f"cat {together} > whole.txt, and add --data.text whole.txt"
            raise Mistake(Exit.CORPUS, what, fix)
        if is_moved and found != known:
            what = f"{names}: not the run's text (SHA-256 {_short(found)}, not {_short(known)})"
            fix = "give the same text, moved, or start a new run with --init-from"
            raise Mistake(Exit.CORPUS, what, fix)
    corpus = load_corpus(config, say)
    if corpus.tokenizer.alphabet != checkpoint.tokenizer.alphabet:
        what = f"{corpus.name} has another alphabet than the run was trained on"
        raise Mistake(Exit.CORPUS, what, "restore the text, or start a new run with --init-from")
    return corpus


def compare(
    start: Checkpoint, config: Config, corpus: Corpus, exact: bool, processes: Processes
) -> str | None:
    """What differs from the session before, as a line to say, or None.

    Raises:
        Mistake: with exit code 4 if `exact` and anything differs, or if exactness is not promised.
    """
    before: dict[str, Any] = dict(start.progress.identity)
    now: dict[str, Any] = dict(identity(config, corpus, processes))
    if exact:  # the user's own changes need no warning, but they make another run of it
        before |= _settings(start.config)
        now |= _settings(config)
    before = {key: before.get(key, "unknown") for key in now}  # older versions saved fewer keys
    changed = [key for key in now if before[key] != now[key]]
    differences = "; ".join(_difference(key, before[key], now[key]) for key in changed)
    if differences and exact:
        what = f"an exact resume is not possible: {differences}"
        raise Mistake(Exit.CHECKPOINT, what, "restore them, or leave out --exact")
    if exact:
        _require_promised(config)
    return f"warning: not bit for bit the uninterrupted run: {differences}" if differences else None


def _settings(config: Config) -> dict[str, Any]:
    """The settings that may change on the way and that weights, progress or metric log depend on.

    The rest of `log` decides which checkpoints are kept and what TensorBoard shows.
    """
    train = config.train.model_dump()
    log = config.log.model_dump(include={"log_every", "eval_every"})
    return {f"train.{key}": x for key, x in train.items()} | {
        f"log.{key}": x for key, x in log.items()
    }


def _require_promised(config: Config) -> None:
    """Refuse where nobody has shown that a resumed run gives the same bytes.

    A GPU may add in any order. torch's deterministic mode is left off: the project has not been
    run in it, and operations without a deterministic form raise there.
    """
    device = find_device(config.train.device).type
    if device != "cpu" or config.train.compile:
        where = f"on {device}" if device != "cpu" else "with train.compile"
        what = f"an exact resume is not promised {where}, only on a CPU without train.compile"
        raise Mistake(Exit.CHECKPOINT, what, "leave out --exact")


def _difference(key: str, before: object, now: object) -> str:
    if key == "corpus":
        return f"the text changed (SHA-256 {_short(before)} -> {_short(now)})"
    return f"{key} {before} -> {now}"


def _short(sha256: object) -> str:
    return str(sha256)[:8]


def forget_best_of_other_text(start: Checkpoint, corpus: Corpus) -> str | None:
    """Forget the best loss if it is another text's; a line that says so, or None."""
    progress = start.progress
    best = progress.best_val_loss
    if best is None or progress.identity.get("corpus") in (None, corpus.sha256):
        return None
    line = (
        f"the best val loss so far, {best:.4f} (step {progress.best_step}), is the old text's: "
        "it no longer competes"
    )
    progress.best_val_loss, progress.best_step, progress.waiting = None, 0, 0
    return line


def risen_rate(start: Checkpoint, config: Config) -> str | None:
    """A line with both learning rates if the changed settings raise it anew, or None."""
    step, old, new = start.progress.step, start.config.train, config.train
    last = old.learning_rate * lr_factor(step - 1, old)
    planned, following = (c.learning_rate * lr_factor(step, c) for c in (old, new))
    if step == 0 or following <= max(last, planned):
        return None
    return f"the learning rate rises again: {last:.1e} at step {step}, {following:.1e} at the next"
