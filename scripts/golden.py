"""Record what a refactoring must not change, and compare a later commit with the record.

python scripts/golden.py record before.json     # at the old commit
python scripts/golden.py compare before.json    # at the new one

debug.yaml, tiny.yaml and each rung of the ladder are trained for 40 steps. The record holds SHA-256
of weights and optimizer state, the metrics without clocks, TensorBoard's scalars and a sampled
text; for tiny.yaml also SHA-256 of the attention page's data. Bytes depend on processor, torch and
threads: compare on the machine that recorded. This script uses the commands and files of users, and
imports nothing of `gpt`, so that it runs unchanged on both sides of a refactoring.
"""

import hashlib
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).resolve().parents[1]
CLOCKS = ("elapsed_seconds", "chars_per_second")
DEVICE = ["--device", "cpu"]
LENGTH = ["--max-new-chars", "300", "--end", "length"]
TRAIN = [
    *("--data.corpus", "shakespeare", "--data.val_fraction", "0.01", "--train.max_steps", "40"),
    *("--log.log_every", "10", "--log.eval_every", "20", "--log.save_every", "20"),
]
SMALLER = {"7-gpt": ["--train.batch_size", "4"]}  # 40 steps of 64 rows would take ten minutes
CONFIGS = [
    *(PROJECT / "configs" / name for name in ("debug.yaml", "tiny.yaml")),
    *sorted((PROJECT / "configs" / "ladder").glob("*.yaml")),
]


def main(argv: list[str]) -> int:
    """Write the record, or print what differs from it; the exit code is 1 if anything does."""
    if "--help" in argv or "-h" in argv:
        print(__doc__)
        return 0
    if len(argv) != 2 or argv[0] not in ("record", "compare"):
        return mistake("expected `record FILE` or `compare FILE`", "see scripts/golden.py --help")
    file = Path(argv[1])
    if argv[0] == "compare" and not file.is_file():
        return mistake(f"no record {file}", "make it at the old commit: scripts/golden.py record")
    if argv[0] == "record" and not file.absolute().parent.is_dir():
        return mistake(f"{file}: no such folder", "make it first")
    try:
        before = json.loads(file.read_text("utf-8")) if argv[0] == "compare" else {}
    except (OSError, ValueError) as problem:
        return mistake(f"{file} is no record: {problem}", "make it anew: scripts/golden.py record")
    with tempfile.TemporaryDirectory() as folder:
        now = {path.stem: of_config(path, Path(folder) / path.stem) for path in CONFIGS}
        now["tiny"]["page"] = page_data(Path(folder) / "tiny")
    if argv[0] == "record":
        file.write_text(json.dumps(now, indent=1), "utf-8")
        return 0
    wrong = list(differences("", before, now))
    for line in wrong:
        print(line)
    print(f"golden: {len(now)} configs, {len(wrong)} differences")
    return 1 if wrong else 0


def mistake(what: str, fix: str) -> int:
    """Report a user's mistake as the project's other commands do; the exit code."""
    print(f"error: {what}\nfix: {fix}", file=sys.stderr)
    return 2


def of_config(config: Path, run: Path) -> dict[str, Any]:
    """Train a config for 40 steps into `run`; what must stay the same of it."""
    print(config.stem, file=sys.stderr)
    command("train.py", "--config", str(config), "--run.dir", str(run), *DEVICE, *TRAIN,
            *SMALLER.get(config.stem, []))  # fmt: skip
    last = run / "checkpoints" / "step-000040"
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text("utf-8").splitlines()]
    return {
        "weights": digest((last / "model.safetensors").read_bytes()),
        "optimizer": digest((last / "optimizer.safetensors").read_bytes()),
        "metrics": [{k: v for k, v in row.items() if k not in CLOCKS} for row in rows],
        "scalars": scalars(run),
        "text": command("sample.py", "--run", str(last), *LENGTH, *DEVICE),
    }


def page_data(run: Path) -> dict[str, str]:
    """SHA-256 of each part of the attention page's data, without `lines`: source lines move."""
    out = run / "page.html"
    command("scripts/explore.py", str(run), "--out", str(out))
    found = re.search(
        r'<script type="application/json"[^>]*>(.*?)</script>', out.read_text("utf-8")
    )
    assert found, "the page holds no data"
    data = json.loads(found[1])
    return {name: digest(json.dumps(data[name]).encode()) for name in data if name != "lines"}


def scalars(run: Path) -> dict[str, list[list[float]]]:
    """TensorBoard's scalars of a run without clocks: tag -> [step, value] pairs."""
    from tensorboard.backend.event_processing.event_accumulator import (  # type: ignore[import-untyped]
        EventAccumulator,
    )

    events = EventAccumulator(str(run))
    events.Reload()
    tags = [tag for tag in events.Tags()["scalars"] if not tag.endswith(CLOCKS)]
    return {tag: [[e.step, e.value] for e in events.Scalars(tag)] for tag in tags}


def command(script: str, *arguments: str) -> str:
    """What `python SCRIPT ARGUMENTS` prints on stdout.

    Raises:
        SystemExit: if the script fails, with what it printed on stderr.
    """
    done = subprocess.run(
        [sys.executable, str(PROJECT / script), *arguments],
        capture_output=True, encoding="utf-8", check=False,
    )  # fmt: skip
    if done.returncode:
        raise SystemExit(f"{script} ended with {done.returncode}:\n{done.stderr}")
    return done.stdout


def digest(data: bytes) -> str:
    """SHA-256 in hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()


def differences(place: str, before: Any, now: Any) -> Iterator[str]:
    """A line for each value that has changed; `place` is the path to it."""
    if isinstance(before, dict) and isinstance(now, dict):
        for key in sorted(before.keys() | now.keys()):
            yield from differences(f"{place}/{key}", before.get(key), now.get(key))
    elif isinstance(before, list) and isinstance(now, list) and len(before) == len(now):
        for number, pair in enumerate(zip(before, now, strict=True)):
            yield from differences(f"{place}/{number}", *pair)
    elif before != now:
        yield f"{place}: {before!r:.80} is now {now!r:.80}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
