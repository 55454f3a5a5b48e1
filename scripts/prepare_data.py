"""Fetch and prepare a corpus; train.py does the same by itself if it is not prepared yet."""

import sys
from pathlib import Path

from gpt.command.cli import Parser, user_path
from gpt.command.process import run_command
from gpt.config import Config, DataConfig
from gpt.data.corpus import load_corpus
from gpt.data.named import NAMED, keep_named_text
from gpt.data.sources import settled
from gpt.errors import Exit, Mistake, reading, say


def main(argv: list[str]) -> int:
    """Prepare a named corpus or a user's text, and print what a look at it finds."""
    parser = Parser(prog="scripts/prepare_data.py", description=__doc__)
    add = parser.add_argument
    add(
        "name",
        type=user_path,
        help=f"{', '.join(NAMED)}, or a UTF-8 text: a file, folder, pattern or -",
    )
    source = "take the named corpus from this file"
    add("--from", dest="source", metavar="FILE", type=user_path, help=source)
    args = parser.parse_all(argv)
    named = args.name in NAMED
    if args.source:
        if not named:
            raise Mistake(Exit.USAGE, "--from goes with a named corpus", "give one path, not two")
        with reading(args.source, Exit.CORPUS, "give the path of the file"):
            content = Path(args.source).read_bytes()
        keep_named_text(args.name, content)
    data = DataConfig(corpus=args.name) if named else DataConfig(text=settled(args.name, say))
    for line in load_corpus(Config(data=data), say).report:
        say(line)
    return Exit.DONE


if __name__ == "__main__":
    sys.exit(run_command(main))
