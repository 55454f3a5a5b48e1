"""The event file of a session, which TensorBoard reads after those of all earlier sessions."""

import re
import time
from pathlib import Path

from tensorboard.compat.proto.event_pb2 import Event, SessionLog  # type: ignore[import-untyped]
from tensorboard.summary.writer.record_writer import RecordWriter  # type: ignore[import-untyped]
from torch.utils.tensorboard import FileWriter, SummaryWriter

from gpt import files


class EventFile(FileWriter):
    """torch's writer of events, with three differences.

    The file's name comes after those of the run's other event files: TensorBoard reads them in that
    order and goes back to none. An event is written at once, without a thread. The file stays open,
    so it is the right one even if the run's directory is renamed.
    """

    def __init__(self, run: Path):
        path = run / later_name(run)
        files.write_file(path, b"")
        self.run, self.journal = run, files.Journal(path)
        self.records = RecordWriter(self.journal)
        self.add_event(Event(file_version="brain.Event:2"))

    def get_logdir(self) -> str:
        return str(self.run)

    def add_event(
        self, event: Event, step: int | None = None, walltime: float | None = None
    ) -> None:
        event.wall_time = time.time() if walltime is None else walltime
        if step is not None:
            event.step = step
        self.records.write(event.SerializeToString())

    def flush(self) -> None:
        self.journal.sync()

    def close(self) -> None:
        self.journal.close()


class SessionWriter(SummaryWriter):
    """torch's writer of summaries, into an `EventFile`.

    Args:
        run: directory of the run.
        purge_step: what earlier sessions logged of this step and later ones is not shown.
    """

    def __init__(self, run: Path, purge_step: int):
        self.events = EventFile(run)
        start = SessionLog(status=SessionLog.START)
        self.events.add_event(Event(step=purge_step, session_log=start))
        super().__init__(str(run))

    def _get_file_writer(self) -> FileWriter:
        return self.events


def later_name(run: Path) -> str:
    """A name that sorts last: the time in seconds, or one more than the latest event file's."""
    names = (re.match(r"events\.out\.tfevents\.(\d+)", path.name) for path in run.iterdir())
    after = max((int(name[1]) + 1 for name in names if name), default=0)
    return f"events.out.tfevents.{max(int(time.time()), after):010d}"
