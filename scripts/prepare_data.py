"""Fetch and prepare a corpus; train.py does the same by itself if it is not prepared yet."""

import sys
from pathlib import Path

from gpt.command.cli import Parser
from gpt.command.process import run_command
from gpt.config import Config, DataConfig
from gpt.data.corpus import load_corpus
from gpt.data.named import NAMED, keep_named_text
from gpt.data.sources import settled
from gpt.errors import Exit, Mistake, say


def main(argv: list[str]) -> int:
    """Prepare a named corpus or a user's text, and print what a look at it finds."""
    parser = Parser(prog="scripts/prepare_data.py", description=__doc__)
    add = parser.add_argument
    add(
        "name",
        help="shakespeare, tinyshakespeare, plays, or a UTF-8 text: a file, folder, pattern or -",
    )
    add("--from", dest="source", metavar="FILE", help="take the named corpus from this file")
    args = parser.parse_all(argv)
    named = args.name in NAMED
    if args.source:
        if not named:
            raise Mistake(Exit.USAGE, "--from goes with a named corpus", "give one path, not two")
        keep_named_text(args.name, _read(args.source))
    data = DataConfig(corpus=args.name) if named else DataConfig(text=settled(args.name, say))
    for line in load_corpus(Config(data=data), say).report:
        say(line)
    return Exit.DONE


def _read(name: str) -> bytes:
    try:
        return Path(name).read_bytes()
    except OSError as problem:
        what = f"cannot read {name}: {problem.strerror}"
        raise Mistake(Exit.CORPUS, what, "give the path of the file") from None


if __name__ == "__main__":
    sys.exit(run_command(main))
