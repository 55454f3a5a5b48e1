"""Where the project keeps its files, and what a path from a user must be."""

from pathlib import Path

from gpt.errors import BadValue

PROJECT = Path(__file__).resolve().parents[1]
CONFIGS = PROJECT / "configs"
DATA = PROJECT / "data"
RUNS = PROJECT / "runs"

LONGEST_NAME = 255  # bytes; of a file, on the systems that people use


def require_path(text: str) -> str:
    """`text`, if a file can have this path.

    Raises:
        BadValue: if it is empty, holds a NUL, is not UTF-8, or a name in it is too long.
    """
    if not text:
        raise BadValue("the path is empty", "give one; is a variable unset?")
    if "\0" in text:
        raise BadValue(f"the path {text!r} holds a NUL", "leave it out: no file has it in its name")
    try:
        longest = max((len(name.encode()) for name in Path(text).parts), default=0)
    except UnicodeEncodeError:  # Python reads such bytes as lone surrogates
        what = f"the path {text!r} is not UTF-8"
        raise BadValue(what, "rename it: configs and checkpoints hold paths as text") from None
    if longest > LONGEST_NAME:
        what = f"a name in the path {text[:40]!r}... is {longest} bytes long"
        raise BadValue(what, f"{LONGEST_NAME} is the most: give a shorter one")
    return text


def expanded(text: str) -> str:
    """The path `text` with a leading ~ or ~USER replaced by that home directory.

    Raises:
        BadValue: if there is no such user.
    """
    if not text.startswith("~"):  # else `./-x` would lose its ./
        return text
    try:
        return str(Path(text).expanduser())
    except RuntimeError:
        what = f"{text}: there is no home directory {Path(text).parts[0]}"
        fix = f"write the path in full, or ./{text} for a name that begins with a tilde"
        raise BadValue(what, fix) from None
