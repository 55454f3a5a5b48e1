"""A run, from the command to its last line: new, resumed or fine-tuned."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch

from gpt import files
from gpt.command.config_file import to_yaml
from gpt.command.process import process_seconds
from gpt.config import Config
from gpt.data.corpus import Corpus, load_corpus
from gpt.data.sources import settled
from gpt.device import find_device, uses_bf16
from gpt.errors import Exit, Mistake, say
from gpt.memory import require_memory, step_memory
from gpt.processes import Processes, require_shares
from gpt.storage.checkpoint import Checkpoint, save_checkpoint
from gpt.storage.find import load_last
from gpt.storage.run_directory import (
    checkpoints_of,
    create_run,
    for_shell,
    known_runs,
    locked,
    require_listable,
    require_no_links,
    set_aside,
    tidy,
)
from gpt.threads import sharing_cores, use_threads
from gpt.training.ending import as_json, last_lines, way_on
from gpt.training.fine_tune import fine_tuned, fine_tuning_config, fresh
from gpt.training.follow import going_on, lead
from gpt.training.identity import (
    compare,
    config_of,
    corpus_of,
    forget_best_of_other_text,
    identity,
    risen_rate,
)
from gpt.training.monitor import Monitor, logged_step
from gpt.training.outlook import outlook
from gpt.training.pace import in_words, training_seconds
from gpt.training.plan import Plan
from gpt.training.speed import measured
from gpt.training.time_left import TRAINING_COST, evaluations_left
from gpt.training.trainer import Trainer

ENOUGH_TO_EVALUATE = 100_000  # characters; more make a loss hardly more certain


@sharing_cores()
def train_new(
    config: Config,
    name: str,
    init_from: Checkpoint | None = None,
    dry_run: bool = False,
    planned: Callable[[Config, Corpus], Plan] | None = None,
    json_result: bool = False,
    processes: Processes | None = None,
) -> int:
    """Train a new run and return the exit code.

    Args:
        name: what the run is called, after the time stamp, where run.dir is not given.
        init_from: fine-tune this model.
        dry_run: stop after the report and, on stdout, the config; no run is written.
        planned: chooses the model and the schedule by the text and this machine.
        json_result: print one JSON object on stdout at the end.
        processes: train together; this one leads them.

    Raises:
        Mistake: with the exit code of whatever prevents the run: see `load_corpus`, `create_run`,
            `require_memory`, `require_shares`, `save_checkpoint`; 6 where numbers are not finite.
    """
    processes = processes or Processes()
    if init_from:
        config = fine_tuning_config(init_from, config, say)
    config = _with_settled_texts(config)
    corpus = _make_ready(config, processes)
    if plan := planned(config, corpus) if planned else None:
        config, corpus = _as_planned(plan, config, corpus)
    long = _warn_of_long_evaluations(config, corpus)
    start = fine_tuned(init_from, config, corpus, say) if init_from else fresh(config, corpus)
    start.progress.identity = identity(config, corpus, processes)
    start.progress.owes_evaluation = not long  # the loss before step 1
    if not all(tensor.isfinite().all() for tensor in start.weights.values()):
        raise Mistake(Exit.NUMERIC, "the initial weights are not finite", "lower model.init_std")
    if dry_run:
        _report(config, corpus, start, processes, plan)
        print(to_yaml(config), end="")
        return Exit.DONE
    run = create_run(config, name)
    processes.begin(run)
    with locked(run):
        save_checkpoint(run, start)  # from here on the run can be resumed
        return _session(config, corpus, run, start, json_result, processes, plan)


@sharing_cores()
def resume(
    run: Path,
    change: Callable[[Config], Config],
    exact: bool = False,
    json_result: bool = False,
    processes: Processes | None = None,
) -> int:
    """Continue a run from its newest whole checkpoint and return the exit code.

    Args:
        change: gives the config of this session, made of the run's (see `config_of`).
        exact: refuse to continue where the bytes would differ from an uninterrupted run's.
        json_result: print one JSON object on stdout at the end.
        processes: train together; this one leads them.

    Raises:
        Mistake: with exit code 4 if there is no whole checkpoint, config.yaml shows another config,
            the run holds a link, or `exact` cannot be kept; 3 if the text is not there, is named
            anew and another one, or changed its alphabet; 5 if a checkpoint may not be read; 7 if
            another process holds the run; else as `train_new`.
    """
    if not checkpoints_of(run):
        require_listable(run)
        begun = (run / ".lock").exists()
        fix = "it was stopped before its first checkpoint: start it again with the same command"
        what = f"no run with a checkpoint in {run}"
        raise Mistake(Exit.CHECKPOINT, what, fix if begun else known_runs())
    require_no_links(run)
    processes = processes or Processes()
    with locked(run):
        start = load_last(run, say)
        config = _with_settled_texts(config_of(run, start, change, say))
        corpus = _make_ready(config, processes, start)
        remarks = [
            compare(start, config, corpus, exact, processes),
            forget_best_of_other_text(start, corpus),
            risen_rate(start, config),
        ]
        for line in filter(None, remarks):
            say(line)
        start.progress.identity = identity(config, corpus, processes)
        set_aside(run, start.name)
        tidy(run, config.log.keep)  # the kill may have come before it
        return _session(config, corpus, run, start, json_result, processes)


def _as_planned(plan: Plan, config: Config, corpus: Corpus) -> tuple[Config, Corpus]:
    """The plan's config, and the corpus split as it says; the plan is said."""
    for line in plan.lines():
        say(line)
    return plan.config, corpus if plan.config.data == config.data else load_corpus(plan.config, say)


def _with_settled_texts(config: Config) -> Config:
    """`config` with texts that are found from anywhere, so that the run can be resumed there."""
    if config.data.text is None:
        return config
    text = settled(config.data.text, say)
    return config.model_copy(update={"data": config.data.model_copy(update={"text": text})})


def _make_ready(config: Config, processes: Processes, start: Checkpoint | None = None) -> Corpus:
    """Set threads, check memory, load the corpus: that of the run if it goes on from `start`.

    What is found in the text is said.
    """
    require_shares(config.train, processes)
    use_threads(config.train.threads, processes.local_size)
    require_memory(config, vocab_size=1)  # an absurd size is refused before anything is written
    corpus = corpus_of(start, config, say) if start else load_corpus(config, say)
    require_memory(config, len(corpus.tokenizer))
    for line in corpus.report:
        say(line)
    return corpus


def _warn_of_long_evaluations(config: Config, corpus: Corpus) -> bool:
    """Warn if an evaluation, which reads the whole split, will take longer than training.

    Returns:
        Whether it will.
    """
    steps = min(config.log.eval_every, config.train.max_steps)
    trained = steps * config.train.batch_size * config.model.block_size
    kept, enough = len(corpus.val_ids), max(trained, ENOUGH_TO_EVALUATE)
    long = kept > TRAINING_COST * enough
    if long:
        say(
            f"warning: each evaluation reads all {kept:,} characters kept for validation, "
            f"{kept / max(trained, 1):,.0f} times what is trained on before it; "
            f"--data.val_fraction {enough / len(corpus.ids):.1g} keeps fewer"
        )
    return long


def _report(
    config: Config,
    corpus: Corpus,
    start: Checkpoint,
    processes: Processes,
    plan: Plan | None = None,
) -> float:
    """Say what is trained, what is to be expected of it and when; the seconds, 0 if unknown."""
    parameters = sum(tensor.numel() for tensor in start.weights.values())
    _, memory = step_memory(config, len(corpus.tokenizer))
    count = torch.get_num_threads()
    threads = "1 thread" if count == 1 else f"{count} threads"
    if processes.size > 1:
        threads = f"{processes.size} processes, each with {threads}"
    say(
        f"model: {parameters:,} parameters; {find_device(config.train.device)} "
        f"({threads}), {'bf16' if uses_bf16(config) else 'fp32'}; "
        f"about {max(memory / 2**30, 0.01):.2f} GiB of memory for a step"
    )
    alone = processes.size == 1
    seconds = _expected_seconds(config, corpus, start, plan) if alone else 0
    say(outlook(config, corpus.train_length, parameters))
    return seconds


def _expected_seconds(
    config: Config, corpus: Corpus, start: Checkpoint, plan: Plan | None
) -> float:
    """Say how long the run will take from `start` on.

    Returns:
        The age of the process at the end [s]; 0 where nothing is left, or steps are compiled: they
        cannot be timed beforehand.
    """
    step, steps = start.progress.step, config.train.max_steps
    if config.train.compile or step >= steps:
        return 0
    speed = plan.speed if plan else measured(config, corpus)
    owed = start.progress.owes_evaluation
    count = evaluations_left(step, config, corpus) + owed
    seconds = training_seconds(config, speed, corpus, step, owed)
    say(
        f"time: about {in_words(process_seconds() + seconds)}; {steps - step:,} steps of "
        f"{1000 * speed.step(config):.0f} ms, {count} evaluations"
    )
    return process_seconds() + seconds


def _session(
    config: Config,
    corpus: Corpus,
    run: Path,
    start: Checkpoint,
    json_result: bool,
    processes: Processes,
    plan: Plan | None = None,
) -> int:
    """Train from `start` to the end or a signal, and say how to go on."""
    expected = _report(config, corpus, start, processes, plan)
    _write_config(run, config)
    if processes.size > 1:
        lead(processes, start, config, run)
    logged = logged_step(start.progress)
    with (
        files.storage_errors(run),
        Monitor(run, config, corpus, start.progress) as monitor,
    ):
        pace = plan.pace(corpus, partial(_write_config, run)) if plan else None
        trainer = Trainer(config, corpus, run, start, monitor, pace, processes)
        progress = trainer.train()
    if processes.lost:
        raise going_on(processes.lost, processes, run, f"step {progress.step} is saved; ")
    config = trainer.config  # its steps may have been counted anew
    if json_result:
        parameters = sum(tensor.numel() for tensor in start.weights.values())
        print(as_json(run, config, progress, parameters, processes.stop_signal))
    if processes.stop_signal:
        way = f"{processes.launcher} train.py --resume {for_shell(run)}"
        say(f"stopped after step {progress.step}; go on with: {way}")
        return 128 + processes.stop_signal
    if progress.step == logged:
        say(f"finished at step {logged}; {way_on(config, progress)} to go on")
        return Exit.DONE
    if expected:
        say(f"took {in_words(process_seconds())}; {in_words(expected)} were expected")
    for line in last_lines(run, config, progress, monitor.course, monitor.counted):
        say(line)
    return Exit.DONE


def _write_config(run: Path, config: Config) -> None:
    files.replace_file(run / "config.yaml", to_yaml(config).encode())
