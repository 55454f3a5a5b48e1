"""A run, from the command to its last line: new, resumed or fine-tuned."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from gpt import storage
from gpt.checkpoint import (
    Checkpoint,
    Progress,
    checkpoints_of,
    create_run,
    known_runs,
    load_last,
    locked,
    save_checkpoint,
    set_aside,
    tidy,
)
from gpt.config import Config
from gpt.corpus import Corpus, load_corpus
from gpt.device import check_size, find_device, uses_bf16
from gpt.errors import Exit, Mistake, say
from gpt.evaluate import bits
from gpt.model import GPT
from gpt.monitor import Monitor
from gpt.trainer import Trainer, identity

TRAINING_COST = 3  # of a character, in times that of evaluating one
ENOUGH_TO_EVALUATE = 100_000  # characters; with more, a loss becomes little more certain


def train_new(config: Config, name: str, init_from: Checkpoint | None = None) -> int:
    """Train a new run and return the exit code.

    Args:
        name: what the run is called, after the time stamp, where run.dir is not given.
        init_from: fine-tune this model.
    """
    if init_from:
        config = with_model_of(init_from, config)
    config = _from_anywhere(config)
    corpus = _make_ready(config)
    _foresee_evaluations(config, corpus)
    start = fine_tuned(init_from, config, corpus) if init_from else fresh(config, corpus)
    run = create_run(config, name)
    with locked(run):
        save_checkpoint(run, start)  # from here on a run can be resumed, wherever it is stopped
        return _session(config, corpus, run, start)


def resume(run: Path, change: Callable[[Config], Config], exact: bool = False) -> int:
    """Go on with a run from its newest whole checkpoint and return the exit code.

    Args:
        change: the config as it shall be from now on.
        exact: refuse to go on where the result would not be that of an undisturbed run.
    """
    if not checkpoints_of(run):
        begun = (run / ".lock").exists()
        fix = (
            "it was stopped before its first: start it again as at first" if begun else known_runs()
        )
        raise Mistake(Exit.CHECKPOINT, f"no run with a checkpoint in {run}", fix)
    _refuse_links(run)
    with locked(run):
        start = load_last(run, say)
        config = change(start.config)
        corpus = _make_ready(config)
        _compare(start, config, corpus, exact)
        set_aside(run, start.progress.step)
        tidy(run, config.log.keep)  # a kill may have come before it
        return _session(config, corpus, run, start)


def _refuse_links(run: Path) -> None:
    """What is written into a run must not land elsewhere; a checkpoint is only read, with care."""
    for folder, names, files in os.walk(run):
        if Path(folder) == run / "checkpoints":
            names.clear()
            continue
        for path in (Path(folder, name) for name in names + files):
            if path.is_symlink() or not (path.is_file() or path.is_dir()):
                what = f"{path} is a link or no plain file: what is written there lands elsewhere"
                raise Mistake(Exit.CHECKPOINT, what, "put in its place what it leads to")


def with_model_of(origin: Checkpoint, config: Config) -> Config:
    """`config` with the architecture of `origin`; dropout is how it is trained, not what it is."""
    model = origin.config.model.model_copy(update={"dropout": config.model.dropout})
    return config.model_copy(update={"model": model})


def _from_anywhere(config: Config) -> Config:
    """`config` with absolute paths of the user's text, so that the run can be resumed elsewhere."""
    texts = config.data.text
    if texts is None:
        return config
    names = [texts] if isinstance(texts, str) else texts
    absolute = [str(Path(name).expanduser().absolute()) for name in names]
    text = absolute[0] if isinstance(texts, str) else absolute
    return config.model_copy(update={"data": config.data.model_copy(update={"text": text})})


def _make_ready(config: Config) -> Corpus:
    """The corpus, once everything that can be refused has been looked at."""
    torch.set_num_threads(config.train.threads or torch.get_num_threads())
    check_size(config, vocab_size=1)  # an absurd size is refused before anything is written
    corpus = load_corpus(config, say)
    check_size(config, len(corpus.tokenizer))
    return corpus


def _foresee_evaluations(config: Config, corpus: Corpus) -> None:
    """Say so if an evaluation, exact however long the text is, will take longer than training."""
    steps = min(config.log.eval_every, config.train.max_steps)
    trained = steps * config.train.batch_size * config.model.block_size
    kept, enough = len(corpus.val_ids), max(trained, ENOUGH_TO_EVALUATE)
    if kept > TRAINING_COST * enough:
        say(
            f"warning: each evaluation reads all {kept:,} characters kept for validation, "
            f"{kept / max(trained, 1):,.0f} times what is trained on before it; "
            f"--data.val_fraction {enough / len(corpus.ids):.1g} keeps fewer"
        )


def _session(config: Config, corpus: Corpus, run: Path, start: Checkpoint) -> int:
    parameters = sum(tensor.numel() for tensor in start.weights.values())
    say(
        f"{corpus.name}: {len(corpus.ids):,} characters, {len(corpus.tokenizer)} distinct; "
        f"model: {parameters:,} parameters; {find_device(config.train.device)} "
        f"({torch.get_num_threads()} threads), {'bf16' if uses_bf16(config) else 'fp32'}"
    )
    storage.replace_file(run / "config.yaml", config.to_yaml().encode())
    step = start.progress.step
    with storage.storage_errors(run), Monitor(run, config, corpus.tokenizer, step) as monitor:
        trainer = Trainer(config, corpus, run, start, monitor)
        progress = trainer.train()
    place = shown(run)
    if trainer.stop_signal:
        say(f"stopped after step {progress.step}; go on with: python train.py --resume {place}")
        return 128 + trainer.stop_signal
    best = progress.best_val_loss
    loss = f"{best:.4f} nats = {bits(best):.4f} bits per character" if best else "not measured"
    say(f"best val loss {loss} (step {progress.best_step}), run {place}; go on with:")
    say(f"  python sample.py --run {place}")
    say(f"  tensorboard --logdir {shown(run.parent)}")
    return Exit.DONE


def fresh(config: Config, corpus: Corpus) -> Checkpoint:
    """Step 0 of a run."""
    torch.manual_seed(config.train.seed)
    weights = GPT(config.model, len(corpus.tokenizer)).state_dict()
    progress = Progress(identity=identity(config, corpus))
    return Checkpoint(config, corpus.tokenizer, progress, weights, {})


def fine_tuned(origin: Checkpoint, config: Config, corpus: Corpus) -> Checkpoint:
    """Step 0 of a run that begins with the weights of `origin`.

    Rows of characters that both alphabets have are taken over; new characters get fresh rows.
    """
    start = fresh(config, corpus)
    weights = start.weights
    known = set(origin.tokenizer.alphabet)
    common = [c for c in corpus.tokenizer.alphabet if c in known]
    new = torch.from_numpy(corpus.tokenizer.encode("".join(common)).astype(np.int64))
    old = torch.from_numpy(origin.tokenizer.encode("".join(common)).astype(np.int64))
    for name, tensor in origin.weights.items():
        if config.model.n_embd == 0:  # the bigram table: characters in rows and in columns
            weights[name][new[:, None], new] = tensor[old[:, None], old]
        elif name.startswith(("token_embedding", "lm_head")):
            weights[name][new] = tensor[old]
        else:
            weights[name] = tensor
    unknown = len(corpus.tokenizer) - len(common)
    say(f"fine-tuning a model of step {origin.progress.step}; {unknown} characters are new to it")
    return start


def same_alphabet(checkpoint: Checkpoint, corpus: Corpus) -> None:
    """Refuse, with exit code 3, a corpus whose characters are not those of the checkpoint."""
    if corpus.tokenizer.alphabet != checkpoint.tokenizer.alphabet:
        what = f"{corpus.name} has another alphabet than the run was trained on"
        raise Mistake(Exit.CORPUS, what, "restore the text, or start a new run with --init-from")


def _compare(start: Checkpoint, config: Config, corpus: Corpus, exact: bool) -> None:
    """Say in a line what differs from the session before; the alphabet must not.

    Raises:
        Mistake: with exit code 3 if the alphabet is another one; 4 if `exact` and anything differs.
    """
    same_alphabet(start, corpus)
    before, now = start.progress.identity, identity(config, corpus)
    if exact:  # what the user changes need not be said, but then it is not the same run
        before = before | {f"train.{key}": x for key, x in start.config.train.model_dump().items()}
        now |= {f"train.{key}": x for key, x in config.train.model_dump().items()}
    differences = [
        f"{key} {before.get(key)} -> {now[key]}" for key in now if before.get(key) != now[key]
    ]
    if differences and exact:
        what = f"an exact resume is not possible: {'; '.join(differences)}"
        raise Mistake(Exit.CHECKPOINT, what, "restore them, or leave out --exact")
    if differences:
        say(f"warning: not bit for bit the undisturbed run: {'; '.join(differences)}")


def shown(path: Path) -> str:
    """`path` as one would type it here."""
    here = Path.cwd()
    return (
        str(path.resolve().relative_to(here)) if path.resolve().is_relative_to(here) else str(path)
    )
