"""The command. It stands apart from why.py because mypy takes only one `__main__`."""

import sys

from why import main

from gpt.command.process import run_command

if __name__ == "__main__":
    sys.exit(run_command(main))
