"""What a run's bytes depend on beside its config, and what of it changed when the run goes on."""

import shlex
from collections.abc import Callable
from typing import Any

import torch

from gpt.config import Config
from gpt.data.corpus import Corpus, load_corpus
from gpt.data.shares import Source
from gpt.data.sources import own_texts, shown
from gpt.data.text import text_sha256
from gpt.device import device_name, find_device, uses_bf16
from gpt.errors import Exit, Mistake
from gpt.optim import lr_factor
from gpt.storage.checkpoint import Checkpoint


def identity(config: Config, corpus: Corpus) -> dict[str, str | int | bool]:
    """What a run's bytes depend on, beside its config."""
    return {
        "corpus": corpus.sha256,
        "torch": torch.__version__,
        "device": device_name(find_device(config.train.device)),
        "cpu": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
        "bf16": uses_bf16(config),
        "processes": 1,
    }


def corpus_of(checkpoint: Checkpoint, config: Config, say: Callable[[str], None]) -> Corpus:
    """The corpus of a run, whose text `config` may name in another place than the run's config.

    Raises:
        Mistake: with exit code 3 if the text is not there, if it is named anew and is another one,
            or if its alphabet is not the run's.
    """
    text = config.data.text
    if text is not None:
        texts = own_texts(text, fix="give --data.text PATH (the same text, moved)")
        known = checkpoint.progress.identity.get("corpus")
        is_moved = text != checkpoint.config.data.text
        found = Source(texts, config.data.val_fraction).sha256 if is_moved or texts[1:] else known
        names = shown([str(path) for path in texts])
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


def compare(start: Checkpoint, config: Config, corpus: Corpus, exact: bool) -> str | None:
    """What differs from the session before, as a line to say, or None.

    Raises:
        Mistake: with exit code 4 if `exact` and anything differs.
    """
    before: dict[str, Any] = dict(start.progress.identity)
    now: dict[str, Any] = dict(identity(config, corpus))
    if exact:  # the user's own changes need no warning, but they make another run of it
        before |= {f"train.{key}": x for key, x in start.config.train.model_dump().items()}
        now |= {f"train.{key}": x for key, x in config.train.model_dump().items()}
    changed = [key for key in now if before.get(key) != now[key]]
    differences = "; ".join(_difference(key, before.get(key), now[key]) for key in changed)
    if differences and exact:
        what = f"an exact resume is not possible: {differences}"
        raise Mistake(Exit.CHECKPOINT, what, "restore them, or leave out --exact")
    return f"warning: not bit for bit the undisturbed run: {differences}" if differences else None


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
