"""The runs under a log directory that the tab can show. No torch.

The directory may hold anybody's runs. Each is looked at by itself: no link is followed, and what
cannot be read, or is no plain file, costs the run it lies in and no other.
"""

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from gpt.storage.manifest import is_checkpoint_name
from gpt.storage.run_directory import checkpoints_of

LOOKS = 10  # at a run whose checkpoints are replaced while it is looked at
MOST_BYTES = 2**32  # of a checkpoint: no browser takes a page of more


def runs_in(logdir: Path) -> dict[str, list[Path]]:
    """The checkpoints of each run under `logdir`, the oldest first, by the run's path in it."""
    try:
        inside = logdir.resolve()
    except (OSError, RuntimeError):  # a loop of links
        return {}
    return {
        folder.relative_to(inside).as_posix(): checkpoints
        for folder in sorted(folders_in(inside))
        if (checkpoints := plain_checkpoints_of(folder))
    }


def folders_in(top: Path) -> Iterator[Path]:
    """`top` and all folders below it, checkpoints aside."""
    left = [top]
    while left:  # no recursion: a stranger's folders may be nested deeper than Python's stack
        yield (folder := left.pop())
        with suppress(OSError), os.scandir(folder) as entries:
            left += [
                Path(entry.path)
                for entry in entries
                if entry.is_dir(follow_symlinks=False) and not is_checkpoint_name(entry.name)
            ]


def plain_checkpoints_of(run: Path) -> list[Path]:
    """The checkpoints of `run` that hold plain files alone, the oldest first."""
    try:
        for _ in range(LOOKS):
            found = [] if (run / "checkpoints").is_symlink() else checkpoints_of(run)
            plain = [path for path in found if is_plain(path)]
            if plain or not found:
                return plain
    except OSError:
        pass
    return []


def is_plain(checkpoint: Path) -> bool:
    """Whether it is a folder, and no link, of plain files that are not too large, one of them the
    manifest, which is written last."""
    try:
        with os.scandir(checkpoint) as entries:
            files = {entry.name: entry for entry in entries}
        plain = all(entry.is_file(follow_symlinks=False) for entry in files.values())
        size = sum(entry.stat(follow_symlinks=False).st_size for entry in files.values())
        return (
            plain
            and size <= MOST_BYTES
            and "manifest.json" in files
            and not checkpoint.is_symlink()
        )
    except OSError:
        return False
