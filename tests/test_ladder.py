"""The ladder: every rung in order, numbers that are the runs' own, nothing trained twice."""

import json
import signal
from pathlib import Path

import pytest

import train
from gpt import paths
from gpt.command.config_file import load_config
from gpt.errors import Exit, Mistake
from gpt.explorer.listing import runs_in
from gpt.storage.run_directory import newest_run
from gpt.training.trainer import Trainer
from scripts import ladder

CONFIGS = {path.stem: path for path in sorted((paths.CONFIGS / "ladder").glob("*.yaml"))}
Output = pytest.CaptureFixture[str]


@pytest.fixture
def trainings(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The arguments of each train.py, which runs in this process, in the test's own places."""
    given: list[list[str]] = []

    def in_process(arguments: list[str]) -> None:
        given.append(arguments)
        if code := train.main(arguments):
            raise SystemExit(code)

    monkeypatch.setattr(ladder, "_train", in_process)
    return given


@pytest.fixture
def toy(text_file: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Flags of a training of a tenth of a second, in a place of its own."""
    monkeypatch.chdir(text_file.parent)
    flags = ["train.max_steps=8", f"data.text={text_file}", "log.tensorboard=false"]
    return [f"--{flag}" for flag in [*flags, "train.device=cpu"]]


def rows(output: str) -> list[list[str]]:
    """The cells of each rung of the table."""
    lines = [line for line in output.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines[2:]]


def test_every_config_of_the_ladder_is_a_rung_in_order() -> None:
    assert list(ladder.RUNGS) == list(CONFIGS)
    for name, rung in ladder.RUNGS.items():
        assert rung.adds
        assert rung.before is None or list(CONFIGS).index(rung.before) < list(CONFIGS).index(name)


def test_the_modern_rung_is_tiny_yaml_at_the_size_of_rung_6() -> None:
    modern, size = (load_config(CONFIGS[name]) for name in ("8-modern", "6-norm"))
    tiny = load_config(paths.CONFIGS / "tiny.yaml")
    of_size = {"model": ("block_size", "n_layer", "n_head", "n_embd"),
               "train": ("threads", "batch_size", "max_steps")}  # fmt: skip

    def made(section: str) -> object:
        keys = {key: getattr(getattr(size, section), key) for key in of_size[section]}
        return getattr(tiny, section).model_copy(update=keys)

    assert (modern.model, modern.train) == (made("model"), made("train"))
    assert (modern.data, modern.log) == (size.data, size.log)


def test_the_table_shows_what_the_runs_logged(
    trainings: list[list[str]], toy: list[str], capsys: Output
) -> None:
    assert ladder.main([*toy, "--quick"]) == Exit.DONE
    output = capsys.readouterr().out
    table = {cells[0]: cells for cells in rows(output)}
    assert list(table) == list(CONFIGS)
    assert table.pop("7-gpt")[2] == "not here"
    losses: dict[str, float] = {}
    for name, (_, size, loss, bought, lecture, _, adds) in table.items():
        run = paths.RUNS / "ladder" / "quick" / name
        last = json.loads((run / "metrics.jsonl").read_text().splitlines()[-1])
        assert last["step"] == 8 // ladder.QUICK
        assert loss == f"{last['val_loss']:.4f}"
        losses[name], rung = last["val_loss"], ladder.RUNGS[name]
        before = f"{losses[name] - losses[rung.before]:+.3f}" if rung.before else ""
        assert (bought, lecture, adds) == (before, f"{rung.lecture or ''}", rung.adds)
        assert int(size.replace(",", "")) > 1000
        assert f"\n{name} writes:\n" in output
    assert (run.parent / "ladder.png").read_bytes().startswith(b"\x89PNG")
    assert len(trainings) == len(table)


def test_each_seed_is_a_run_and_the_differences_are_of_means(
    trainings: list[list[str]], toy: list[str], capsys: Output
) -> None:
    ladder.main(["1-bigram", "2-one-head", *toy, "--seeds", "2"])
    bigram, head = rows(capsys.readouterr().out)
    first, second = ([float(loss) for loss in row[2].split()] for row in (bigram, head))
    assert len(first) == len(set(first)) == 2
    assert float(head[3]) == pytest.approx((sum(second) - sum(first)) / 2, abs=1e-3)
    runs = [path.parent for path in sorted((paths.RUNS / "ladder").glob("*/config.yaml"))]
    seeds = [load_config(run / "config.yaml").train.seed for run in runs]
    assert seeds == [1337, 1338, 1337, 1338]


def test_what_is_trained_is_not_trained_again(
    trainings: list[list[str]], toy: list[str], capsys: Output
) -> None:
    ladder.main(["1-bigram", *toy])
    first = rows(capsys.readouterr().out)
    ladder.main(["1-bigram", *toy])
    assert rows(capsys.readouterr().out) == first
    assert len(trainings) == 1


def test_a_rung_that_was_stopped_goes_on(
    trainings: list[list[str]], toy: list[str], monkeypatch: pytest.MonkeyPatch, capsys: Output
) -> None:
    ladder.main(["2-one-head", *toy, "--out", "whole"])
    whole = rows(capsys.readouterr().out)
    step = Trainer._step
    with monkeypatch.context() as patch:
        patch.setattr(
            Trainer, "_step", lambda self: (signal.raise_signal(signal.SIGINT), step(self))
        )
        with pytest.raises(SystemExit) as stopped:
            ladder.main(["2-one-head", *toy])
    assert stopped.value.code == Exit.SIGINT
    capsys.readouterr()
    ladder.main(["2-one-head", *toy])
    assert rows(capsys.readouterr().out)[0][:5] == whole[0][:5]  # all but the seconds
    assert [arguments[0] for arguments in trainings] == ["--config", "--config", "--resume"]


@pytest.mark.parametrize(
    "flag", ["--train.learning_rate=0.5", "--data.val_fraction=0.2", "--quick"]
)
def test_a_rung_of_other_settings_is_no_row_of_this_table(
    trainings: list[list[str]], toy: list[str], flag: str
) -> None:
    ladder.main(["1-bigram", *toy, "--out", "mine"])
    with pytest.raises(Mistake, match="trained with other settings") as caught:
        ladder.main(["1-bigram", *toy, flag, "--out", "mine"])
    assert (caught.value.exit_code, len(trainings)) == (Exit.BUSY, 1)
    assert "--out" in caught.value.fix


def test_the_gpt_is_trained_where_it_is_asked_for(
    trainings: list[list[str]], toy: list[str], capsys: Output
) -> None:
    small = ["--model.n_embd=8", "--model.n_head=2", "--model.block_size=8", "--train.max_steps=1"]
    ladder.main(["7-gpt", *toy, *small])
    assert float(rows(capsys.readouterr().out)[0][2]) > 0


def test_the_page_shows_the_rungs_and_sample_py_does_not_take_them_for_runs(
    trainings: list[list[str]], toy: list[str]
) -> None:
    ladder.main(["1-bigram", "2-one-head", *toy])
    assert list(runs_in(paths.RUNS)) == ["ladder/1-bigram", "ladder/2-one-head"]
    with pytest.raises(Mistake, match="no run with a checkpoint"):
        newest_run()


@pytest.mark.parametrize(
    ("argv", "what"),
    [
        (["9-moon"], "no rung 9-moon"),
        (["--train.max_step=3"], "unknown argument --train.max_step"),
        (["--run.dir=x"], "--run.dir"),
        (["--seeds", "0"], "at least 1"),
    ],
)
def test_mistakes_are_found_before_anything_is_trained(argv: list[str], what: str) -> None:
    with pytest.raises(Mistake, match=what) as caught:
        ladder.main(argv)
    assert caught.value.exit_code == Exit.USAGE
    assert not paths.RUNS.exists()


def test_a_training_that_fails_ends_the_ladder_with_its_words(capsys: Output) -> None:
    with pytest.raises(SystemExit) as ended:
        ladder._train(["--nonsense"])
    assert ended.value.code == Exit.USAGE
    assert "error: unknown argument --nonsense" in capsys.readouterr().err
