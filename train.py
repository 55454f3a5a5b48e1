"""Train a model: `python train.py --config tiny.yaml`, or go on: `python train.py --resume RUN`."""

import sys
from functools import partial
from pathlib import Path

from gpt.errors import Exit, Mistake, run_command, say


def main(argv: list[str]) -> int:
    """Read the config, then train a new run or go on with one."""
    # imported here, where a Ctrl-C is answered with a line already
    from gpt.cli import Parser, add_config_flags, find_config, load_config, overrides_of

    usage = "train.py [--config NAME | --resume RUN] [--SECTION.KEY VALUE ...]"
    parser = Parser(prog="train.py", usage=usage, description=__doc__)
    parser.add_argument(
        "--config", metavar="NAME", help="a path, or a name in configs/ [tiny.yaml]"
    )
    parser.add_argument(
        "--resume", metavar="RUN", help="go on with this run, exactly where it stopped"
    )
    parser.add_argument(
        "--exact", action="store_true", help="with --resume: only if bit for bit the same"
    )
    parser.add_argument("--init-from", metavar="RUN", help="fine-tune this run's best model")
    parser.add_argument(
        "--print-config", action="store_true", help="show the resolved config and stop"
    )
    add_config_flags(parser)
    args = parser.parse_all(argv)
    overrides = overrides_of(args)
    if args.resume:
        if args.config or args.init_from or args.print_config:
            what = "--resume takes the run's own config, so that no other is read"
            raise Mistake(Exit.USAGE, what, "leave out --config, --init-from and --print-config")
        return _resume(args.resume, overrides, args.exact)
    path = find_config(args.config or "tiny.yaml")
    config = load_config(path, overrides)
    if args.init_from:
        _keep_model(overrides)
    elif args.print_config:
        print(config.to_yaml(), end="")
        return Exit.DONE

    from gpt.checkpoint import find_checkpoint  # torch is imported only once it is needed
    from gpt.run import train_new, with_model_of

    origin = find_checkpoint(args.init_from, say) if args.init_from else None
    if origin and args.print_config:
        print(with_model_of(origin, config).to_yaml(), end="")
        return Exit.DONE
    return train_new(config, path.stem, origin)


def _keep_model(overrides: dict[str, object]) -> None:
    """Refuse flags that would make another model of the one that is fine-tuned."""
    changed = [key for key in overrides if key.startswith("model.") and key != "model.dropout"]
    if changed:
        what = f"--{changed[0]} cannot be changed when a model is fine-tuned"
        raise Mistake(Exit.USAGE, what, "leave it out, or leave out --init-from")


def _resume(run: str, overrides: dict[str, object], exact: bool) -> int:
    fixed = [
        key for key in overrides if key.startswith(("model.", "data.", "run.", "train.optimizer"))
    ]
    if fixed:
        what = f"--{fixed[0]} cannot be changed when a run goes on"
        raise Mistake(Exit.USAGE, what, "leave it out, or start a new run with --init-from")

    from gpt.cli import overridden
    from gpt.run import resume

    return resume(Path(run), partial(overridden, overrides=overrides), exact)


if __name__ == "__main__":
    sys.exit(run_command(main))
