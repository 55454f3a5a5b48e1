"""The command. It stands apart from torture.py because mypy takes only one `__main__`."""

import sys

from torture import main

from gpt.command.process import run_command

if __name__ == "__main__":
    sys.exit(run_command(main))
