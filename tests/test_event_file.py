"""Event files are read in the order of the sessions, and hold what is logged at once."""

import os
import time
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.directory_watcher import DirectoryWatcher
from tensorboard.backend.event_processing.event_file_loader import LegacyEventFileLoader

from gpt.training.event_file import SessionWriter, later_name


@pytest.mark.parametrize("now", [1_800_000_000, 1_700_000_000, 5])
def test_a_name_comes_after_all_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, now: int
) -> None:
    """Also after those of TensorBoard's own writer, whatever the clock says."""
    monkeypatch.setattr(time, "time", lambda: now + 0.5)
    assert later_name(tmp_path) == f"events.out.tfevents.{now:010d}"
    names = ["events.out.tfevents.1750000000.a-host.123.0", "events.out.tfevents.1750000001"]
    for name in [*names, "metrics.jsonl", "events.out.tfevents.mine", "00900"]:
        (tmp_path / name).touch()
    for _ in range(3):
        names.append(later_name(tmp_path))
        (tmp_path / names[-1]).touch(exist_ok=False)
    assert names == sorted(names)


def test_a_tensorboard_that_watches_sees_the_sessions_in_their_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each event as soon as it is logged, though the clock is set back before each session."""
    watcher = DirectoryWatcher(str(tmp_path), LegacyEventFileLoader, lambda path: True)
    seen = []
    for session in range(3):
        monkeypatch.setattr(time, "time", lambda n=session: 1_800_000_000.0 - 1000 * n)
        writer = SessionWriter(tmp_path, session)
        for step in (2 * session, 2 * session + 1):
            writer.add_scalar("loss", 1.0, step)
            seen += [event.step for event in watcher.Load() if event.summary.value]
        os.close(writer.events.journal.descriptor)  # like a kill: nothing more is written
    assert seen == [0, 1, 2, 3, 4, 5]
