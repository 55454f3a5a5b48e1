"""Train a model: `python train.py --config tiny.yaml`, or go on: `python train.py --resume RUN`."""

import os
import sys
from argparse import Namespace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from gpt.command.process import run_command
from gpt.errors import Exit, Mistake, say

if TYPE_CHECKING:
    from collections.abc import Callable

    from gpt.command.cli import Parser
    from gpt.config import Config
    from gpt.data.corpus import Corpus
    from gpt.processes import Processes
    from gpt.training.plan import Plan


def main(argv: list[str]) -> int:
    """Train, alone or as one of the processes that torchrun started."""
    if "RANK" not in os.environ:
        return _train(argv, None)  # --help needs no torch

    from gpt.process_group import joined

    with joined() as processes:
        if processes.leads:
            return _train(argv, processes)
        from gpt.training.follow import follow

        return follow(processes)


def _train(argv: list[str], processes: "Processes | None") -> int:
    """Read the config, then train a new run or continue one."""
    # imported here, where Ctrl-C is handled already
    from gpt.command.cli import overrides_of
    from gpt.command.config_file import find_config, load_config, to_yaml

    args = _parser().parse_all(argv)
    overrides = overrides_of(args)
    if args.resume:
        return _resume(args, overrides, processes)
    if args.exact:
        what = "--exact goes with --resume"
        raise Mistake(Exit.USAGE, what, "leave it out, or give the run with --resume")
    _require_training(args)
    if args.minutes:
        _require_free_time(args, overrides)
        _require_one_process(processes)
    path = find_config(args.config or "tiny.yaml")
    config = load_config(path, overrides)
    if args.init_from:
        _require_same_model(overrides)
    elif args.print_config:
        print(to_yaml(config), end="")
        return Exit.DONE

    if processes and processes.begun and not args.dry_run:  # torchrun started them anew
        from gpt.training.run import resume

        return resume(processes.begun, lambda config: config, False, args.json, processes)

    # imports of torch, only once it is needed
    from gpt.storage.find import find_checkpoint
    from gpt.training.fine_tune import fine_tuning_config
    from gpt.training.run import train_new

    origin = find_checkpoint(args.init_from, say) if args.init_from else None
    if origin and args.print_config:
        print(to_yaml(fine_tuning_config(origin, config, say)), end="")
        return Exit.DONE
    planned = _planner(args, overrides) if args.minutes else None
    name = f"{args.minutes:g}-minutes" if args.minutes else path.stem
    return train_new(config, name, origin, args.dry_run, planned, args.json, processes)


def _parser() -> "Parser":
    from gpt.command.cli import Parser, add_config_flags, number, user_path

    usage = "train.py [--config NAME | --minutes M | --resume RUN] [--SECTION.KEY VALUE ...]"
    parser = Parser(prog="train.py", usage=usage, description=__doc__)
    add = parser.add_argument
    add(
        "--config", metavar="NAME", type=user_path, help="a path, or a name in configs/ [tiny.yaml]"
    )
    add(
        "--minutes",
        metavar="M",
        type=number(float, 0.1, 10**6),
        help="choose the model and the schedule: the best for M minutes on this machine",
    )
    add("--resume", metavar="RUN", type=user_path, help="continue this run where it stopped")
    add("--exact", action="store_true", help="with --resume: only if bit for bit the same")
    add("--init-from", metavar="RUN", type=user_path, help="fine-tune this run's best model")
    add("--print-config", action="store_true", help="show the resolved config and stop")
    add("--dry-run", action="store_true", help="stop after the report on the text and the config")
    add("--json", action="store_true", help="print the result as one JSON object on stdout")
    add_config_flags(parser)
    return parser


def _require_free_time(args: Namespace, overrides: dict[str, object]) -> None:
    """Refuse what --minutes chooses."""
    if args.config or args.print_config:
        what = f"--minutes chooses the config; {'--config' if args.config else '--print-config'}"
        raise Mistake(Exit.USAGE, f"{what} does not go with it", "leave it out; --dry-run shows it")
    chosen = {"train.max_steps", "train.decay_fraction", "log.eval_every", "log.save_every"}
    if taken := sorted(chosen & set(overrides)):
        what = f"--minutes chooses {taken[0]}"
        raise Mistake(Exit.USAGE, what, f"leave out --{taken[0]}, or --minutes")


def _planner(args: Namespace, overrides: dict[str, object]) -> "Callable[[Config, Corpus], Plan]":
    """What chooses all that neither the flags nor the model that is fine-tuned settle."""
    from gpt.config import fields
    from gpt.training.plan import plan

    of_origin = {key for key in fields() if key.startswith("model.")} if args.init_from else set()
    return partial(plan, given=set(overrides) | of_origin, minutes=args.minutes)


def _require_one_process(processes: "Processes | None") -> None:
    """Refuse --minutes for several processes: it times one."""
    if processes and processes.size > 1:
        what = "--minutes is for one process: it does not know how fast several are"
        raise Mistake(Exit.USAGE, what, "give --config NAME, or leave out torchrun")


def _require_training(args: Namespace) -> None:
    """Refuse --json where nothing is trained: stdout has the config then."""
    if args.json and (args.print_config or args.dry_run):
        what = "--json is for a training, and nothing is trained"
        raise Mistake(Exit.USAGE, what, "leave it out, or leave out --print-config and --dry-run")


def _require_same_model(overrides: dict[str, object]) -> None:
    """Refuse flags that would change the architecture of the model that is fine-tuned."""
    changed = [key for key in overrides if key.startswith("model.") and key != "model.dropout"]
    if changed:
        what = f"--{changed[0]} cannot be changed when a model is fine-tuned"
        raise Mistake(Exit.USAGE, what, "leave it out, or leave out --init-from")


def _resume(args: Namespace, overrides: dict[str, object], processes: "Processes | None") -> int:
    from gpt.command.config_file import is_changeable, overridden

    if args.config or args.init_from or args.print_config or args.dry_run or args.minutes:
        what = "--resume uses the run's own config"
        fix = "leave out --config, --init-from, --minutes, --print-config and --dry-run"
        raise Mistake(Exit.USAGE, what, fix)
    fixed = [key for key in overrides if not is_changeable(key)]
    if fixed:
        what = f"--{fixed[0]} cannot be changed when a run goes on"
        raise Mistake(Exit.USAGE, what, "leave it out, or start a new run with --init-from")

    from gpt.training.run import resume

    change = partial(overridden, overrides=overrides)
    return resume(Path(args.resume), change, args.exact, args.json, processes)


if __name__ == "__main__":
    sys.exit(run_command(main))
