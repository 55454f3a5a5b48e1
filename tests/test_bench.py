"""The benchmark: its arithmetic, its turns, and all of its rows at toy size beside fake peers."""

import json
import math
import os
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import harness
import nanogpt
import peers
import processes
import pytest
import torch
from bench_peers import make_lecture, make_nanogpt
from harness import Bench
from limits import products, step_flops
from plot import plot
from processes import Ended, Failure, run
from report import Goal, Measured, amount, printed, ratio, shown
from rows import ROWS
from sizes import SMOKE, Shape
from texts import made_up, write_text
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from gpt.config import ModelConfig
from gpt.errors import Exit, Mistake
from gpt.model import GPT
from gpt.paths import PROJECT

FOLDER = PROJECT / "scripts" / "bench"
main = runpy.run_path(str(FOLDER / "__main__.py"))["main"]


def measured(who: str, *seconds: float) -> Measured:
    return Measured("row", "case", who, [{"seconds": value} for value in seconds])


# --- what is told -------------------------------------------------------------------------------


def test_a_ratio_reaches_from_the_least_possible_to_the_most() -> None:
    line = ratio(measured("a", 2, 3, 10), measured("b", 1, 4, 2), "seconds", Goal("<=", 1.5))
    assert line
    assert (line.median, line.low, line.high) == (3 / 2, 2 / 4, 10 / 1)
    assert line.met
    assert line.overlap
    assert printed(line).endswith("goal <= 1.5: met by the median, but the ranges overlap")


def test_ranges_that_only_touch_overlap_and_others_do_not() -> None:
    one = measured("a", 1, 2)
    assert ratio(one, measured("b", 2, 3), "seconds").overlap  # type: ignore[union-attr]
    apart = ratio(one, measured("b", 2.1, 3), "seconds", Goal(">=", 1.2))
    assert apart
    assert not apart.overlap
    assert printed(apart).endswith("goal >= 1.2: not met")


def test_a_goal_is_met_by_the_median_or_by_all() -> None:
    goal = Goal("<=", 4)
    for seconds, met in (
        ((1, 2, 4), "met"),
        ((1, 2, 5), "met by the median"),
        ((1, 5, 5), "not met"),
    ):
        line = amount(measured("a", *seconds), "seconds", "s", goal)
        assert line
        assert printed(line).endswith(f"goal <= 4: {met}")


def test_a_difference_is_taken_turn_by_turn() -> None:
    line = amount(measured("a", 5, 7, 6), "seconds", "s", less=measured("b", 1, 4, 1))
    assert line
    assert (line.what, line.low, line.median, line.high) == ("a - b", 3, 4, 5)
    assert line.met is None


def test_nothing_is_told_of_what_failed() -> None:
    failed = Measured("row", "", "b", [{"seconds": 1.0}], error="it broke in its second turn")
    assert ratio(measured("a", 1), failed, "seconds") is None
    assert ratio(failed, measured("a", 1), "seconds") is None
    assert amount(failed, "seconds", "s") is None


def test_numbers_are_shown_with_as_many_digits_as_a_person_reads() -> None:
    assert [shown(x) for x in (0.1234, 1.88, 12.345, 123.45, 41234.5, 6)] == [
        "0.123", "1.880", "12.35", "123.5", "41,234", "6",
    ]  # fmt: skip


def test_the_plot_is_a_picture(tmp_path: Path) -> None:
    line = ratio(measured("a", 1, 2), measured("b", 2, 3), "seconds", Goal("<=", 1))
    assert line
    plot([line], tmp_path / "ratios.png")
    assert (tmp_path / "ratios.png").read_bytes().startswith(b"\x89PNG")


# --- what is counted ----------------------------------------------------------------------------


def test_the_products_are_those_that_torch_counts() -> None:
    """Linear layers exactly; of attention's squares, which torch counts whole, the half."""
    size = Shape(n_layer=2, n_head=2, n_embd=16, block_size=8, batch_size=3)
    sizes = {key: value for key, value in size._asdict().items() if key != "batch_size"}
    model = GPT(ModelConfig(**sizes, bias=False), vocab_size=11)
    tokens = torch.zeros(3, 8, dtype=torch.long)
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        model(tokens).logsumexp(-1).mean().backward()
    counted = counter.get_flop_counts()["Global"]
    linear = [one for one in products(size, 11) if one.pieces == 1]
    flops = 3 * sum(2 * one.rows * one.inner * one.columns * one.times for one in linear)
    assert flops == counted[torch.ops.aten.mm]
    assert step_flops(size, 11) - flops == counted[torch.ops.aten.bmm] / 2


def test_a_made_up_text_is_the_same_each_time() -> None:
    assert made_up(1000) == made_up(1000)
    assert len(made_up(1000)) == 1000
    assert made_up(1000).isascii()
    assert not made_up(1000, accents=True).isascii()


def test_a_text_of_so_many_megabytes(tmp_path: Path) -> None:
    write_text(tmp_path / "big.txt", 2.5, accents=True)
    text = (tmp_path / "big.txt").read_bytes()
    assert len(text) == pytest.approx(2.5e6, rel=0.25)  # whole pieces
    assert text.decode()
    with pytest.raises(Failure, match="MB free"):
        write_text(tmp_path / "big.txt", 1e12, accents=False)


# --- processes and turns ------------------------------------------------------------------------


def python(code: str, folder: Path, **options: Any) -> Ended:
    return run([sys.executable, "-c", code], folder, {}, **options)


def test_a_process_is_measured(tmp_path: Path) -> None:
    code = "import time; x = b'1' * 10**8; print('out'); time.sleep(0.3)"
    ended = python(code, tmp_path, watch=True)
    assert ended.stdout == "out\n"
    assert ended.numbers["seconds"] > 0.3
    assert 100 < ended.numbers["anonymous_mb"] < 200
    assert (
        ended.numbers["peak_mb"] > 100
    )  # more here, as a process begins as a copy of this large one


def test_a_process_that_fails_says_why(tmp_path: Path) -> None:
    with pytest.raises(Failure, match="ZeroDivisionError: division by zero"):
        python("1 / 0", tmp_path)
    with pytest.raises(Failure, match="error: no text"):
        python(
            "import sys; print('error: no text\\nfix: give one', file=sys.stderr); exit(3)",
            tmp_path,
        )
    with pytest.raises(Failure, match="exit code -9"):
        python("import os; os.kill(os.getpid(), 9)", tmp_path)


def test_memory_that_the_system_does_not_tell_is_no_memory_of_zero(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "_anonymous_mb", lambda _: 0.0)
    with pytest.raises(Failure, match="does not tell RssAnon"):
        python("", tmp_path, watch=True)


@pytest.fixture
def quiet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    """A bench that started nothing."""
    monkeypatch.setattr(Bench, "job", lambda *_, **__: {})
    monkeypatch.setattr(harness.compileall, "compile_dir", lambda *_, **__: None)
    place = tmp_path / "place"
    place.mkdir()
    return Bench(place, SMOKE, ["train"], 4, {}, "a text")


def test_each_turn_begins_with_another_one(quiet: Bench) -> None:
    order: list[str] = []

    def contender(name: str) -> Any:
        return lambda: order.append(name) or {"number": len(order)}

    found = quiet.in_turn("row", "", {name: contender(name) for name in "abc"})
    assert "".join(order) == "abcbcacababc"
    assert [run["number"] for run in found["b"].runs] == [2, 4, 9, 11]


def test_one_that_fails_leaves_the_others_running(quiet: Bench) -> None:
    def fails() -> Any:
        raise Failure("no such thing")

    found = quiet.in_turn("row", "", {"a": lambda: {"x": 1}, "b": fails})
    assert len(found["a"].runs) == 4
    assert (found["b"].runs, found["b"].error) == ([], "no such thing")


def test_a_peer_that_is_not_given_is_left_out(quiet: Bench) -> None:
    found = quiet.in_turn("row", "", {"ours": dict, "nanogpt": dict, "lecture": dict})
    assert list(found) == ["ours"]
    assert "--peer nanogpt=PATH" in quiet.left_out()["nanogpt"]


def test_nanogpt_without_its_data(quiet: Bench, tmp_path: Path) -> None:
    quiet.peers["nanogpt"] = tmp_path
    with pytest.raises(Failure, match=r"run python data/shakespeare_char/prepare.py in .* first"):
        nanogpt.train(quiet)


def test_nanogpt_s_checkpoint_is_scored_by_ours(
    quiet: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The peer trains, its own sampler loads what it saved; it gives five characters like chances.

    Its iterations take 1, 2, 3 ... milliseconds, as it prints.
    """
    peer = make_nanogpt(tmp_path)
    quiet.peers["nanogpt"] = peer
    found = nanogpt.step_speed(quiet, Shape(1, 1, 4, 8, 2), warmup=2, steps=3)
    assert found["steps"] == [0.003, 0.004, 0.005]
    assert found["chars_per_second"] == pytest.approx(8 * 2 / 0.004)
    monkeypatch.chdir(peer)
    monkeypatch.setattr(sys, "argv", [])
    monkeypatch.syspath_prepend(str(peer))
    monkeypatch.delitem(sys.modules, "model", raising=False)
    scored = peers.score_nanogpt(str(peer), str(quiet.place / "nanogpt-out"))
    monkeypatch.delitem(sys.modules, "model")
    assert scored == {"val_loss": pytest.approx(math.log(5)), "val_characters": 101}


# --- the command --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("argv", "what"),
    [
        (["speed"], "no row speed"),
        (["--peer", "minigpt=."], "NAME is nanogpt or lecture"),
        (["--peer", "nanogpt=nowhere"], "train.py is not there"),
        (["--repeat", "0"], "must be at least 1"),
        (["--json", "nowhere/found.json"], "no such folder"),
        (["--plot", "nowhere/ratios.png"], "no such folder"),
    ],
)
def test_mistakes_are_named_before_anything_starts(argv: list[str], what: str) -> None:
    with pytest.raises(Mistake) as caught:
        main(argv)
    assert what in caught.value.what
    assert caught.value.exit_code == Exit.USAGE


@pytest.mark.parametrize(("who", "code"), [("nanogpt", Exit.DONE), ("ours", Exit.BUG)])
def test_what_breaks_is_told_in_a_line_and_the_rest_goes_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], who: str, code: Exit
) -> None:
    def breaks() -> Any:
        raise Failure("bad luck")

    def row(bench: Bench) -> None:
        bench.measure("train", "", {"limit": lambda: {"x": 7}, who: breaks}, {"x": "s"})

    monkeypatch.setattr(Bench, "job", lambda *_, **__: {})
    monkeypatch.setattr(Bench, "left_out", lambda _: {})
    monkeypatch.setitem(ROWS, "train", row)
    assert main(["--smoke", "train"]) == code
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["limit", "7", "s", "7", "–", "7"] in lines
    assert [who, "failed:", "bad", "luck"] in lines


HERE = os.environ | {"PYTHONPATH": str(PROJECT)}  # this checkout, whichever is installed


def call(*argv: str) -> tuple[int, str]:
    command = [sys.executable, str(FOLDER), "--smoke", *argv]
    done = subprocess.run(
        command, env=HERE, capture_output=True, text=True, check=False, timeout=600
    )
    return done.returncode, done.stdout + done.stderr


def files_of(folder: Path) -> set[Path]:
    return {path for path in folder.rglob("*") if "__pycache__" not in path.parts}


def test_help_lists_the_rows_with_a_line_each() -> None:
    command = [sys.executable, str(FOLDER), "--help"]
    text = subprocess.run(command, env=HERE, capture_output=True, text=True, check=True).stdout
    for name, row in ROWS.items():
        assert f"  {name:<20} {row.__doc__}\n" in text


def test_a_row_through_the_command(tmp_path: Path) -> None:
    code, said = call("ngram", "--repeat", "2", "--json", str(tmp_path / "found.json"))
    assert code == 0, said
    assert "nanogpt: left out; give --peer nanogpt=PATH" in said
    found = json.loads((tmp_path / "found.json").read_text())
    assert {"cpu", "threads", "torch", "commit", "load"} <= found["machine"].keys()
    (one,) = found["measured"]
    assert [run["val_loss"] < math.log(27) for run in one["runs"]] == [True, True]


@pytest.mark.slow
def test_to_a_loss_beside_nanogpt(tmp_path: Path) -> None:
    """The whole way, with train.py and the peer as real processes."""
    peer, before = make_nanogpt(tmp_path), files_of(tmp_path)
    json_file = tmp_path / "found.json"
    code, said = call(
        "to-1.88", "--repeat", "1", "--peer", f"nanogpt={peer}", "--json", str(json_file)
    )
    assert code == 0, said
    assert "ours / nanogpt" in said
    found = json.loads(json_file.read_text())
    runs = {one["who"]: one["runs"] for one in found["measured"]}
    assert len(runs["ours"]) == len(runs["nanogpt"]) == 1
    assert runs["ours"][0]["val_loss"] < 9
    assert runs["nanogpt"][0]["val_loss"] == pytest.approx(math.log(5))  # all five alike
    assert files_of(tmp_path) - {json_file} == before  # nothing is written into the peer


@pytest.mark.slow
def test_every_row_beside_every_peer(tmp_path: Path) -> None:
    nanogpt, lecture = make_nanogpt(tmp_path), make_lecture(tmp_path)
    json_file, picture = tmp_path / "found.json", tmp_path / "ratios.png"
    peers = ["--peer", f"nanogpt={nanogpt}", "--peer", f"lecture={lecture}"]
    before = files_of(PROJECT)
    code, said = call("--repeat", "1", *peers, "--json", str(json_file), "--plot", str(picture))
    assert code == 0, said
    assert files_of(PROJECT) == before
    found = json.loads(json_file.read_text())
    assert not [one for one in found["measured"] if one["error"]]
    assert {one["row"] for one in found["measured"]} >= ROWS.keys()
    assert {len(one["runs"]) for one in found["measured"]} == {1}
    steps = [
        one["runs"] for one in found["measured"] if (one["row"], one["who"]) == ("train", "nanogpt")
    ]
    # iterations of 2 and 3 ms after the one that warms up, 4 x 16 characters each
    assert steps[0][0]["chars_per_second"] == pytest.approx(64 / 0.0025)
    assert picture.read_bytes().startswith(b"\x89PNG")
