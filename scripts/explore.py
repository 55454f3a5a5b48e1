"""Write the interactive attention page of a run: one HTML file for a browser.

python scripts/explore.py runs/mine --text "To be, or not to be" --out attention.html
"""

import sys
from pathlib import Path

from gpt.command.cli import Parser, user_path
from gpt.command.process import ending_with_reader, run_command
from gpt.errors import Exit, say
from gpt.files import replace_file, require_replaceable


def main(argv: list[str]) -> int:
    """Write the page to --out; `-` is stdout."""
    parser = Parser(prog="scripts/explore.py", description=(__doc__ or "").split("\n")[0])
    parser.add_argument(
        "run",
        nargs="?",
        type=user_path,
        help="a run, for its best checkpoint, or a checkpoint [the newest run]",
    )
    parser.add_argument("--text", help="the text that the page opens with [the run's log.probe]")
    parser.add_argument(
        "--out",
        default="attention.html",
        type=user_path,
        help="the file to write, - for stdout [%(default)s]",
    )
    args = parser.parse_all(argv)
    if args.out != "-":
        require_replaceable(Path(args.out))  # before the work, not after

    from gpt.explorer import export  # imports torch, which --help does not need

    page = export.html(export.find_exhibit(args.run, args.text, say)).encode()
    if args.out == "-":
        with ending_with_reader(sys.stdout):
            sys.stdout.buffer.write(page)
    else:
        replace_file(Path(args.out), page)
        say(f"{Path(args.out).resolve()} ({len(page) / 1e6:.1f} MB): open it in a browser")
    return Exit.DONE


if __name__ == "__main__":
    sys.exit(run_command(main))
