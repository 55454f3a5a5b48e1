"""Write text with a trained model: `python sample.py`, the newest run's best by default."""

import argparse
import io
import sys
from pathlib import Path

from gpt.errors import Exit, Mistake, run_command, say


def main(argv: list[str]) -> int:
    """Print the prompt and what the model writes after it."""
    args = _arguments(argv)
    prompt = _prompt(args)

    from gpt.checkpoint import find_checkpoint  # torch is imported only once it is needed
    from gpt.writer import write

    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf-8")  # whatever the locale: the text may hold anything
    checkpoint = find_checkpoint(args.run, say)
    write(checkpoint, prompt, args, sys.stdout)
    return Exit.DONE


def _arguments(argv: list[str]) -> argparse.Namespace:
    from gpt.cli import Parser, number  # here a Ctrl-C is answered with a line already

    parser = Parser(prog="sample.py", description=__doc__)
    add = parser.add_argument
    add("--run", help="a run, or one of its checkpoints [the newest run's best]")
    text = parser.add_mutually_exclusive_group()
    text.add_argument("--prompt", help="text to go on from")
    text.add_argument("--prompt-file", metavar="FILE", help="the same from a file; - is stdin")
    add("--unknown", choices=["error", "skip", "replace"], default="error",
        help="what to do with a character the model does not know [error]")  # fmt: skip
    add("--max-new-chars", metavar="N", type=number(int, 0), default=500, help="[500]")
    add("--stop", metavar="TEXT", help="stop before this text")
    add("--num-samples", metavar="N", type=number(int, 1), default=1, help="[1]")
    add("--seed", metavar="N", type=number(int, 0, 2**63 - 1), default=1337, help="[1337]")
    add("--temperature", metavar="X", type=number(float, 0), default=0.8,
        help="below 1 bolder, above 1 wilder, 0 always the likeliest [0.8]")  # fmt: skip
    add("--top-k", metavar="K", type=number(int, 0), default=0, help="only the K likeliest [all]")
    add("--top-p", metavar="P", type=number(float, 0, 1), default=1.0,
        help="only the likeliest that together have probability P [1]")  # fmt: skip
    add("--device", default="auto", help="auto | cpu | cuda | cuda:N | mps [auto]")
    return parser.parse_all(argv)


def _prompt(args: argparse.Namespace) -> str:
    if args.prompt_file is None:
        return args.prompt or ""
    try:
        file = args.prompt_file
        data = sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
        return data.decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n")
    except OSError as problem:
        what = f"cannot read {file}: {problem.strerror}"
        raise Mistake(Exit.USAGE, what, "give a text file, or - for stdin") from None
    except UnicodeDecodeError as problem:
        what = f"{file} is not UTF-8: byte {problem.start} is 0x{problem.object[problem.start]:02x}"
        raise Mistake(Exit.USAGE, what, "save the prompt as UTF-8") from None


if __name__ == "__main__":
    sys.exit(run_command(main))
