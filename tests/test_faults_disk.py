"""Power loss and full disks: G4 and G6.

What a power loss may leave is built from the operations of an undisturbed run: file data and
directory entries that were not synced may be there or not, each by itself. Real file systems are
kinder.
"""

import itertools
import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from faults import ROOT, System, Workshop, changed, outcome, whole_checkpoints

import gpt.files
import gpt.storage.checkpoint
import gpt.storage.run_directory
import gpt.training.monitor
from gpt.errors import Mistake
from gpt.storage.checkpoint import load_checkpoint
from gpt.storage.manifest import step_of
from gpt.training.monitor import logged_step

Operation = tuple[Any, ...]


@pytest.fixture
def shop(tmp_path: Path) -> Workshop:
    return Workshop(tmp_path)


def undisturbed(shop: Workshop) -> tuple[dict[str, Any], list[Operation]]:
    """What a run leaves that nothing happens to, and the operations it takes."""
    shop.train_here(shop.fresh(shop.folder / "first"))  # prepares the corpus as well
    ended = shop.train_here(shop.fresh(shop.folder / "run"))
    assert ended.code == 0, ended.output
    left = outcome(shop.folder / "run")
    (shop.folder / "run").rename(shop.folder / "whole")
    return left, ended.system.log


# --- a disk that forgets -----------------------------------------------------------------------


class File:
    def __init__(self) -> None:
        self.data, self.synced = b"", b""


class Folder:
    def __init__(self) -> None:
        self.now: dict[str, File | Folder] = {}
        self.synced: dict[str, File | Folder] = {}
        self.waiting: list[dict[str, File | Folder | None]] = []  # changes of entries

    def change(self, **entries: "File | Folder | None") -> None:
        self.waiting.append(entries)
        apply(self.now, entries)


def apply(entries: dict[str, Any], changes: dict[str, Any]) -> None:
    for name, item in changes.items():
        entries.pop(name, None)
        if item is not None:
            entries[name] = item


class ForgetfulDisk:
    """Files and folders below `root`, and what of them is sure to outlive a power loss."""

    def __init__(self, root: Path):
        self.root, self.top = root, Folder()

    def find(self, path: str) -> tuple[Folder, str]:
        """The folder that holds `path`, and the name in it."""
        *folders, name = Path(path).relative_to(self.root).parts
        folder = self.top
        for part in folders:
            folder = folder.now[part]  # type: ignore[assignment]
        return folder, name

    def do(self, kind: str, path: str, *more: Any) -> None:
        if Path(path) == self.root:  # a sync of it
            self.sync(self.top)
            return
        folder, name = self.find(path)
        item: Any = folder.now.get(name)
        if kind == "create" and isinstance(item, File):
            item.data = b""
        elif kind == "create":
            folder.change(**{name: File()})
        elif kind == "mkdir":
            folder.change(**{name: Folder()})
        elif kind == "write":
            item.data += more[0]
        elif kind == "rename":
            target, new_name = self.find(more[0])
            assert target is folder
            folder.change(**{name: None, new_name: item})
        elif kind in ("unlink", "rmtree"):
            for child in list(item.now) if isinstance(item, Folder) else []:
                item.change(**{child: None})
            folder.change(**{name: None})
        elif kind == "sync":
            self.sync(item)

    def sync(self, item: File | Folder) -> None:
        if isinstance(item, File):
            item.synced = item.data
        else:
            item.synced, item.waiting = dict(item.now), []

    def images(self) -> Iterator[dict[str, bytes | None]]:
        """Each state that a power loss now may leave: path -> bytes; None for a folder."""
        folders = list(self.folders(self.top))
        waiting = [(folder, change) for folder in folders for change in folder.waiting]
        for data in ("lost", "torn", "kept"):
            for kept in some_subsets(len(waiting)):
                entries = {id(folder): dict(folder.synced) for folder in folders}
                for (folder, change), keep in zip(waiting, kept, strict=True):
                    if keep:
                        apply(entries[id(folder)], change)
                yield dict(self.read(self.top, entries, "", data))

    def folders(self, folder: Folder) -> Iterator[Folder]:
        seen = {id(folder): folder}
        stack = [folder]
        while stack:
            top = stack.pop()
            known = [*top.synced.values(), *top.now.values()]
            known += [item for change in top.waiting for item in change.values() if item]
            for item in known:
                if isinstance(item, Folder) and id(item) not in seen:
                    seen[id(item)] = item
                    stack.append(item)
        yield from seen.values()

    def read(
        self, folder: Folder, entries: dict[int, Any], path: str, data: str
    ) -> Iterator[tuple[str, bytes | None]]:
        for name, item in entries[id(folder)].items():
            if isinstance(item, Folder):
                yield f"{path}{name}", None
                yield from self.read(item, entries, f"{path}{name}/", data)
            elif data == "lost":
                yield f"{path}{name}", item.synced
            elif data == "torn":
                half = (len(item.synced) + len(item.data)) // 2
                yield f"{path}{name}", item.data[:half] + bytes(max(0, len(item.synced) - half))
            else:
                yield f"{path}{name}", item.data


def some_subsets(count: int) -> Iterator[tuple[bool, ...]]:
    """All subsets of a few; of many all of them, none, and those with or without just one."""
    if count <= 5:
        yield from itertools.product([False, True], repeat=count)
        return
    for one in range(count):
        yield tuple(n == one for n in range(count))
        yield tuple(n != one for n in range(count))
    yield (True,) * count
    yield (False,) * count


def all_images(root: Path, log: list[Operation]) -> Iterator[tuple[int, dict[str, bytes | None]]]:
    """The newest step that must be there, and an image; each image once."""
    disk, seen, saved, published = ForgetfulDisk(root), set(), -1, -1
    for operation in log:
        disk.do(*operation)
        saved = published  # the operation after the renaming was the last of the publication
        if operation[0] == "rename" and Path(operation[2]).name.startswith("step-"):
            published = step_of(Path(operation[2]))
        for image in disk.images():
            visible = (item for item in sorted(image.items()) if "/." not in item[0])
            key = (saved, tuple(visible))
            if key not in seen:
                seen.add(key)
                yield saved, image


def lay_out(image: dict[str, bytes | None], root: Path) -> None:
    for name, data in sorted(image.items()):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if data is None:
            path.mkdir(exist_ok=True)
        else:
            path.write_bytes(data)


def weights_of_steps(log: list[Operation]) -> dict[int, bytes]:
    """The weights that were published under each step's name."""
    written: dict[str, bytes] = {}
    for kind, path, *more in log:
        if kind == "write":
            written[path] = written.get(path, b"") + more[0]
    return {
        int(Path(path).parent.name[6:12]): data
        for path, data in written.items()
        if path.endswith("model.safetensors")
    }


def losses(log: list[Operation], root: Path) -> Iterator[str]:
    """What a power loss could take away, or bring in, that must not be."""
    weights = weights_of_steps(log)
    for number, (saved, image) in enumerate(all_images(root, log)):
        place = root / "image"
        lay_out(image, place)
        run = place / "run"
        newest = logged = -1
        for path in whole_checkpoints(run):
            newest = step_of(path)
            logged = logged_step(load_checkpoint(path).progress)
            if (path / "model.safetensors").read_bytes() != weights[newest]:
                yield f"image {number}: {path.name} is not what was saved"
        if newest < saved:
            yield f"image {number}: step {saved} was saved, step {newest} is there"
        rows = list(gpt.training.monitor._rows_until(run / "metrics.jsonl", logged))
        if [json.loads(row)["step"] for row in rows] != list(range(logged + 1)):
            yield f"image {number}: {len(rows)} rows of metrics for step {logged}"
        shutil.rmtree(place, ignore_errors=True)


def test_a_power_loss_leaves_a_whole_checkpoint(shop: Workshop) -> None:
    _, log = undisturbed(shop)
    assert list(losses(log, shop.folder)) == []


def test_a_run_goes_on_after_a_power_loss(shop: Workshop) -> None:
    left, log = undisturbed(shop)
    images = list(all_images(shop.folder, log))
    for _, image in images[:: len(images) // 12]:
        lay_out(image, shop.folder)
        if (shop.folder / "run").is_dir():
            assert shop.go_on(shop.folder / "run").code == 0
            assert changed(shop.folder / "run", left) == []
            shutil.rmtree(shop.folder / "run")


@pytest.mark.parametrize(
    "unsynced",
    [
        lambda path: path.endswith("model.safetensors"),
        lambda path: path.endswith("manifest.json"),
        lambda path: path.endswith("metrics.jsonl"),
        lambda path: path.endswith("checkpoints"),
        lambda path: path.endswith(".tmp") and ".step" in path,
        lambda path: path.endswith("run"),
    ],
)
def test_a_power_loss_finds_a_missing_sync(shop: Workshop, unsynced: Callable[[str], bool]) -> None:
    _, log = undisturbed(shop)
    log = [("forgot", op[1]) if op[0] == "sync" and unsynced(op[1]) else op for op in log]
    assert next(losses(log, shop.folder), None)


# --- full disks --------------------------------------------------------------------------------


def full_disk_problems(shop: Workshop, every: int) -> list[str]:
    """Let the disk be full from the k-th operation on that needs space; then free some."""
    left, log = undisturbed(shop)
    run, wrong = shop.folder / "run", []
    needing = [number for number, op in enumerate(log) if op[0] in ("write", "mkdir")]
    for at in needing[::every]:
        ended = shop.train_here(shop.fresh(run), System("full", at))
        if ended.code != 5 or "No space left" not in ended.output:
            wrong.append(f"full at {at}: exit {ended.code}: {ended.output}")
        if whole_checkpoints(run) != gpt.storage.run_directory.checkpoints_of(run):
            wrong.append(f"full at {at}: a checkpoint is torn")
        if (run / "last").exists() and not whole_checkpoints(run):
            wrong.append(f"full at {at}: no checkpoint is left")
        if not run.exists():
            continue
        ended = shop.go_on(run)
        wrong += [f"full at {at}: {what}" for what in changed(run, left)]
        shutil.rmtree(run)
    return wrong


def test_a_disk_full_at_some_writes(shop: Workshop) -> None:
    assert full_disk_problems(shop, every=5) == []


def test_a_disk_full_at_an_event_of_tensorboard(shop: Workshop) -> None:
    left, _ = undisturbed(shop)
    run, board = shop.folder / "run", ["--log.tensorboard", "true"]
    log = shop.train_here(shop.fresh(run, *board)).system.log
    events = [n for n, op in enumerate(log) if op[0] == "write" and "tfevents" in op[1]]
    shutil.rmtree(run)
    ended = shop.train_here(shop.fresh(run, *board), System("full", events[len(events) // 2]))
    assert ended.code == 5
    assert "events.out.tfevents." in ended.output
    assert whole_checkpoints(run)
    assert shop.go_on(run).code == 0
    differing = changed(run, left)
    assert [name for name in differing if "config" not in name] == []  # it holds log.tensorboard


@pytest.mark.slow
def test_a_disk_full_at_every_write(shop: Workshop) -> None:
    assert full_disk_problems(shop, every=1) == []


def test_a_full_disk_finds_a_publication_in_place(
    shop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    def publish(target: Path, files: dict[str, bytes], mode: int = 0o666) -> None:
        with gpt.files.storage_errors(target):
            gpt.files.make_directory(target)
            for name, data in files.items():
                gpt.files.write_file(target / name, data)

    monkeypatch.setattr(gpt.files, "publish_directory", publish)
    assert full_disk_problems(shop, every=3)


def test_a_real_limit_of_the_system(shop: Workshop) -> None:
    """No file may grow beyond 2000 bytes: the system itself refuses the write."""
    import resource
    import signal

    undisturbed(shop)

    def limit() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))

    ended = shop.train(shop.fresh(shop.folder / "run"), prepare=limit)
    assert ended.code == 5
    assert "cannot write" in ended.output
    assert gpt.storage.run_directory.checkpoints_of(shop.folder / "run") == whole_checkpoints(
        shop.folder / "run"
    )


def test_text_for_a_full_disk(shop: Workshop) -> None:
    undisturbed(shop)
    with Path("/dev/full").open("wb") as full:
        command = [sys.executable, str(ROOT / "sample.py"), "--run", str(shop.folder / "whole")]
        ended = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert ended.returncode == 5
    assert [line.split(":")[0] for line in ended.stderr.splitlines()] == ["error", "fix"]


def test_a_checkpoint_that_cannot_be_deleted(
    shop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    undisturbed(shop)
    remove = gpt.files.remove

    def refusing(path: Path) -> None:
        if path.name.startswith("step-"):
            raise PermissionError(1, "Operation not permitted", str(path))
        remove(path)

    monkeypatch.setattr(gpt.files, "remove", refusing)
    ended = shop.train_here(shop.fresh(shop.folder / "run"))
    assert ended.code == 5
    assert "step-000000-stopped: Operation not permitted" in ended.output
    assert len(whole_checkpoints(shop.folder / "run")) == 2
    with pytest.raises(Mistake, match="no checkpoint"):
        gpt.storage.checkpoint.load_checkpoint(shop.folder / "run" / "checkpoints" / "step-000009")
