"""The real commands at toy size: what they print where, and how they end."""

import io
import json
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from conftest import VERSE

import sample
import train
from gpt.command.process import run_command
from gpt.model import GPT
from gpt.paths import PROJECT
from gpt.storage.find import load_last

TOY = ["--config", "debug.yaml", "--device", "cpu", "--log.tensorboard", "false"]
EXACTLY = ["--end", "length", "--max-new-chars"]
Answer = tuple[int, str, str]  # exit code, stdout, stderr
Command = Callable[..., Answer]


@pytest.fixture(scope="session")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the project, so that its runs/ and data/ are the test's own, and a text."""
    place = tmp_path_factory.mktemp("project")
    for name in ("gpt", "configs"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(PROJECT / name, place / name, ignore=ignored)
    for name in ("train.py", "sample.py"):
        shutil.copy(PROJECT / name, place)
    (place / "verse.txt").write_text(VERSE * 20, "utf-8")
    return place


def start(place: Path, *argv: str, cwd: Path | None = None) -> subprocess.Popen[str]:
    command = [sys.executable, "-W", "error", str(place / argv[0]), *argv[1:]]
    return subprocess.Popen(
        command, cwd=cwd or place, text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def call(place: Path, *argv: str, cwd: Path | None = None, stdin: str = "") -> Answer:
    """Run a real command to its end."""
    with start(place, *argv, cwd=cwd) as process:
        out, err = process.communicate(stdin, timeout=120)
    return process.returncode, out, err


@pytest.fixture(scope="session")
def run(place: Path) -> Path:
    """A run of the real train.py."""
    code, out, err = call(place, "train.py", *TOY, "--data.text", "verse.txt")
    assert (code, out) == (0, ""), err
    (run,) = (place / "runs").iterdir()
    assert f"python sample.py --run runs/{run.name}" in err
    return run


@pytest.fixture
def command(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> Command:
    """Run `train` or `sample` in this process, in an empty place."""
    monkeypatch.chdir(tmp_path)

    def run(main: Callable[[list[str]], int], *argv: str) -> Answer:
        capfd.readouterr()
        monkeypatch.setattr(sys, "argv", ["x.py", *argv])
        try:
            code = run_command(main)
        except SystemExit as end:
            code = int(end.code or 0)
        sys.stdout.flush()
        return code, *capfd.readouterr()

    return run


def assert_contract(answer: Answer, code: int, what: str) -> None:
    """An error line and a fix line for each mistake, nothing on stdout, no traceback."""
    assert answer[0] == code, answer[2]
    assert answer[1] == ""
    lines = answer[2].splitlines()
    at = next(i for i, line in enumerate(lines) if line.startswith("error: "))
    assert [line.split(": ")[0] for line in lines[at:]] == ["error", "fix"] * (len(lines[at:]) // 2)
    assert what in "\n".join(lines[at:])
    assert "Traceback" not in answer[2]


# --- train.py, then sample.py ------------------------------------------------------------------


def test_a_run_directory_holds_what_the_contract_says(run: Path) -> None:
    assert {path.name for path in run.iterdir()} - {".lock"} == {
        "config.yaml", "metrics.jsonl", "checkpoints", "best", "last",
    }  # fmt: skip
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert rows[-1]["step"] == 20
    assert run.name.endswith("-debug")


def test_sample_prints_the_text_only_from_any_directory(
    place: Path, run: Path, tmp_path: Path
) -> None:
    argv = ["sample.py", "--prompt", "ROMEO:\n", "--seed", "3", *EXACTLY, "40"]
    code, out, err = call(place, *argv, cwd=tmp_path)
    assert (code, err) == (0, "")
    assert out.startswith("ROMEO:\n")
    assert len(out) == len("ROMEO:\n") + 40 + 1
    assert out.endswith("\n")
    assert set(out) <= set(VERSE)


def test_no_command_waits_for_torch_s_compiler(place: Path, run: Path, tmp_path: Path) -> None:
    """torch imports it, for a second or two, when an optimizer of its own is made or a model on the
    meta device; there are averages in this checkpoint."""
    copy = str(shutil.copytree(run, tmp_path / "copy"))
    for command, *argv in (
        ("train", "--resume", copy, "--train.max_steps", "21"),
        ("sample", "--run", copy, "--max-new-chars", "40"),
    ):
        code = (
            f"import sys, {command}\n"
            f"assert {command}.main({argv!r}) == 0\n"
            "assert 'torch._dynamo' not in sys.modules\n"
            "assert 'matplotlib' not in sys.modules\n"
        )
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=place, capture_output=True, text=True, timeout=120
        )
        assert done.returncode == 0, done.stderr


def test_a_prompt_comes_through_a_pipe(place: Path, run: Path) -> None:
    code, out, err = call(place, "sample.py", "--prompt-file", "-", *EXACTLY, "5", stdin="But soft")
    assert (code, err) == (0, "")
    assert out.startswith("But soft")
    assert len(out) == 8 + 5 + 1


def test_a_reader_that_has_seen_enough_is_no_error(place: Path, run: Path) -> None:
    with start(place, "sample.py", "--max-new-chars", "1000000") as process:
        assert process.stdin
        assert process.stdout
        assert process.stderr
        assert process.stdout.read(1)
        process.stdout.close()
        err = process.stderr.read()
        assert process.wait(60) == 0
    assert err == ""


def test_ctrl_c_ends_a_long_sample(place: Path, run: Path) -> None:
    with start(place, "sample.py", "--max-new-chars", "1000000") as process:
        assert process.stdout
        assert process.stderr
        process.stdout.read(1)
        process.send_signal(signal.SIGINT)
        process.stdout.read()
        assert process.wait(60) == 130
        assert "Traceback" not in process.stderr.read()


def test_ctrl_c_stops_a_training_that_can_go_on(place: Path, tmp_path: Path) -> None:
    path = tmp_path / "run"
    argv = [*TOY, "--data.text", "verse.txt", "--run.dir", str(path)]
    with start(place, "train.py", *argv, "--train.max_steps", "1000000") as process:
        until_there = time.monotonic() + 60
        metrics = path / "metrics.jsonl"
        while not metrics.exists() or b'"step": 5,' not in metrics.read_bytes():
            assert time.monotonic() < until_there
            assert process.poll() is None
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (130, "")
    assert f"python train.py --resume {path}" in err
    done = load_last(path, print).progress.step
    assert done >= 5
    more = ["--resume", str(path), "--train.max_steps", str(done + 2)]
    code, out, err = call(place, "train.py", *more)
    assert (code, out) == (0, ""), err
    assert load_last(path, print).progress.step == done + 2


# --- mistakes ----------------------------------------------------------------------------------


def changed(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


@pytest.fixture
def mistaken(command: Command, tmp_path: Path) -> Command:
    """A training that is refused: it has changed nothing on disk."""

    def refuse(*argv: str) -> Answer:
        before = changed(tmp_path)
        answer = command(train.main, *argv)
        assert changed(tmp_path) == before
        return answer

    return refuse


def test_an_unknown_key(mistaken: Command) -> None:
    answer = mistaken(*TOY, "--model.n_layers", "3")
    assert_contract(answer, 2, "unknown argument --model.n_layers")
    assert "did you mean --model.n_layer?" in answer[2]


def test_a_config_that_is_missing(mistaken: Command) -> None:
    assert_contract(mistaken("--config", "nowhere.yaml"), 2, "no config nowhere.yaml")


def test_several_mistakes_in_a_config(mistaken: Command, tmp_path: Path) -> None:
    (tmp_path / "my.yaml").write_text("model:\n  n_heads: 3\ntrain:\n  batch_size: 0\n")
    answer = mistaken("--config", "my.yaml", "--log.keep", "-1")
    assert_contract(answer, 2, "unknown key model.n_heads (my.yaml:2)")
    assert answer[2].count("error: ") == 3


def test_a_text_that_is_too_short(mistaken: Command, tmp_path: Path) -> None:
    (tmp_path / "short.txt").write_text("to be or not to be")
    answer = mistaken(*TOY, "--data.text", "short.txt")
    assert_contract(answer, 3, "18 characters give 16 for training and 2 for validation")


def test_a_text_that_is_not_utf8(mistaken: Command, tmp_path: Path) -> None:
    (tmp_path / "latin.txt").write_bytes("café".encode("latin-1") * 200)
    assert_contract(mistaken(*TOY, "--data.text", "latin.txt"), 3, "byte 3 is 0xe9")


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has CUDA")
def test_cuda_without_cuda(mistaken: Command, text_file: Path) -> None:
    argv = [*TOY, "--device", "cuda", "--data.text", str(text_file)]
    assert_contract(mistaken(*argv), 2, "device cuda is not there; this machine has cpu")


def test_a_model_larger_than_the_machine(command: Command, text_file: Path) -> None:
    argv = [*TOY, "--data.text", str(text_file), "--model.n_embd", "65536", "--model.n_layer=1000"]
    assert_contract(command(train.main, *argv, "--run.dir", "x"), 2, "parameters and a batch of")
    assert not Path("x").exists()


def test_resume_mistakes(mistaken: Command, tmp_path: Path) -> None:
    assert_contract(mistaken("--resume", "runs/nowhere"), 4, "runs/nowhere")
    answer = mistaken("--resume", "x", "--model.n_layer", "3")
    assert_contract(answer, 2, "--model.n_layer cannot be changed")


def test_print_config_is_a_config(mistaken: Command, tmp_path: Path) -> None:
    argv = [*TOY, "--train.learning_rate", "1e-4", "--data.text", "a=b.txt", "--print-config"]
    code, out, err = mistaken(*argv)
    assert (code, err) == (0, "")
    (tmp_path / "resolved.yaml").write_text(out)
    assert mistaken("--config", "resolved.yaml", "--print-config") == (0, out, "")


@pytest.fixture
def trained(command: Command, tmp_path: Path, text_file: Path) -> Path:
    """A run made in this process."""
    argv = ["--data.text", str(text_file), "--run.dir", "mine", "--train.max_steps", "3"]
    code, out, err = command(train.main, *TOY, *argv)
    assert (code, out) == (0, ""), err
    return tmp_path / "mine"


@pytest.mark.parametrize(
    "argv",
    [
        *(["--resume", ""], ["--init-from", ""], ["--config", ""], ["--exact"]),
        *(["--data.text", ""], ["--data.text", "a", ""], ["--run.dir", ""]),
    ],
)
def test_an_empty_flag_is_no_default(mistaken: Command, argv: list[str]) -> None:
    """An unset variable of a shell must not train something else."""
    toy = TOY[2:] if argv[0] in ("--config", "--resume") else TOY
    assert_contract(mistaken(*toy, *argv), 2, argv[0].removeprefix("--"))


def test_first_weights_that_are_not_finite_are_not_saved(
    command: Command, text_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert_contract(command(train.main, *TOY, "--model.init_std", "1e300"), 2, "model.init_std")
    monkeypatch.setattr(GPT, "_initialise", lambda self: self.norm.weight.data.fill_(float("inf")))
    argv = ["--data.text", str(text_file), "--train.max_steps", "0", "--run.dir", "mine"]
    assert_contract(command(train.main, *TOY, *argv), 6, "initial weights")
    assert not Path("mine").exists()


@pytest.mark.parametrize("name", ["my $(touch pwned) run", "-rf", "it's; ls", "a b"])
def test_commands_that_are_printed_can_be_pasted(
    command: Command, text_file: Path, name: str, tmp_path: Path
) -> None:
    argv = [*TOY, "--data.text", str(text_file), f"--run.dir={name}", "--train.max_steps", "0"]
    code, _, err = command(train.main, *argv)
    assert code == 0
    pasted = [shlex.split(line) for line in err.splitlines() if line.startswith("  python")]
    named = [words[at] for words, at in zip(pasted, (-1, 2, -1), strict=True)]
    assert [Path(word) for word in named] == [Path(name)] * 3
    assert not any(word.startswith("-") for word in named)


def test_a_run_is_not_trained_over(trained: Path, mistaken: Command, text_file: Path) -> None:
    answer = mistaken(*TOY, "--data.text", str(text_file), "--run.dir", "mine")
    assert_contract(answer, 7, "mine is not empty")
    assert "--resume mine" in answer[2]


def test_a_run_can_be_resumed_and_fine_tuned(trained: Path, command: Command) -> None:
    assert command(train.main, "--resume", "mine", "--train.max_steps", "5")[0] == 0
    (trained.parent / "new.txt").write_text("other words, éé\n" * 40)
    argv = [*TOY, "--init-from", "mine", "--data.text", "new.txt", "--train.max_steps", "2"]
    code, out, err = command(train.main, *argv, "--run.dir", "tuned")
    assert (code, out) == (0, ""), err
    code, out, err = command(sample.main, "--run", "tuned", "--prompt", "é", "--max-new-chars", "4")
    assert code == 0
    assert out.startswith("é")


def test_a_model_that_is_fine_tuned_keeps_its_sizes(
    trained: Path, mistaken: Command, tmp_path: Path
) -> None:
    argv = [*TOY, "--init-from", "mine", "--print-config"]
    assert_contract(mistaken(*argv, "--model.n_layer", "3"), 2, "--model.n_layer cannot be changed")
    (tmp_path / "wide.yaml").write_text("model: {n_embd: 48, n_head: 3}\n")
    code, out, err = mistaken(*argv, "--config", "wide.yaml", "--model.dropout", "0.25")
    assert code == 0
    assert "n_embd 16 instead of 48" in err
    model = yaml.safe_load(out)["model"]
    origin = yaml.safe_load((trained / "config.yaml").read_text())["model"]
    assert model == origin | {"dropout": 0.25}


def test_a_fine_tuning_from_nowhere(mistaken: Command) -> None:
    assert_contract(mistaken(*TOY, "--init-from", "nowhere"), 4, "no run nowhere")


def test_no_run_yet(command: Command) -> None:
    answer = command(sample.main)
    assert_contract(answer, 4, "no run with a checkpoint")
    assert "train" in answer[2]


def test_a_checkpoint_cut_short(trained: Path, command: Command) -> None:
    for path in trained.rglob("model.safetensors"):
        path.write_bytes(path.read_bytes()[:-1])
    assert_contract(command(sample.main, "--run", "mine"), 4, "model.safetensors is damaged")
    assert_contract(command(train.main, "--resume", "mine"), 4, "model.safetensors is damaged")


# --- sample.py ---------------------------------------------------------------------------------


def test_an_unknown_character_in_the_prompt(trained: Path, command: Command) -> None:
    argv = ["--run", "mine", "--max-new-chars", "3", "--prompt", "But € soft"]
    answer = command(sample.main, *argv)
    assert_contract(answer, 2, "'€' (U+20AC), character 5 of the text")
    assert command(sample.main, *argv, "--unknown", "skip")[1].startswith("But  soft")
    assert command(sample.main, *argv, "--unknown", "replace")[1].startswith("But ? soft")


def test_a_prompt_with_any_sign(trained: Path, command: Command) -> None:
    for argv in (["--prompt", "a=b"], ["--prompt=--seed=4"], ["--prompt", "{x} %s %d"]):
        code, out, err = command(sample.main, *argv, "--run", "mine", "--unknown", "skip")
        assert (code, err) == (0, "")
        assert out.startswith("".join(c for c in argv[-1].removeprefix("--prompt=") if c in VERSE))


def test_a_prompt_file_that_cannot_be_read(trained: Path, command: Command) -> None:
    Path("latin.txt").write_bytes(b"caf\xe9")
    for name, what in (("nowhere", "cannot read nowhere"), ("latin.txt", "byte 3 is 0xe9")):
        answer = command(sample.main, "--run", "mine", "--prompt-file", name)
        assert_contract(answer, 2, what)


def test_several_samples_and_lengths(trained: Path, command: Command) -> None:
    def text(*argv: str) -> str:
        code, out, err = command(sample.main, "--run", "mine", *EXACTLY, "50", *argv)
        assert (code, err) == (0, "")
        return out

    one = text("--prompt", "Ay")
    three = text("--prompt", "Ay", "--num-samples", "3")
    assert three.startswith(one)
    assert len(three) == 3 * (2 + 50) + 2 * len("\n\n") + 1
    assert text("--prompt", "Ay", "--max-new-chars", "0") == "Ay\n"
    assert len(text()) == 50 + 1  # without a prompt
    assert len(text("--prompt", VERSE)) == len(VERSE) + 50 + 1  # longer than the context
    greedy = text("--prompt", "Ay", "--temperature", "0")
    assert greedy == text("--prompt", "Ay", "--temperature", "0", "--seed", "9")
    assert greedy == text("--prompt", "Ay", "--top-k", "1")
    assert greedy == text("--prompt", "Ay", "--top-p", "0")
    assert text("--prompt", "Ay", "--top-k", "999") == one


@pytest.mark.parametrize("number", [10**9, 2**63 - 1, 10**400])
def test_more_samples_than_memory_holds_are_refused_before_any_is_allocated(
    trained: Path, command: Command, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    monkeypatch.setattr("gpt.generation.generate.Decoder", None)  # not even begun
    answer = command(sample.main, "--run", "mine", "--num-samples", str(number))
    assert_contract(answer, 2, "samples")


def test_stop_ends_each_sample_by_itself(trained: Path, command: Command) -> None:
    argv = ["--run", "mine", "--prompt", "Ay", *EXACTLY, "60", "--num-samples", "3"]
    _, free, _ = command(sample.main, *argv, "--temperature", "1")
    _, stopped, _ = command(sample.main, *argv, "--temperature", "1", "--stop", "e")
    rows = [free[i * (62 + 2) :][:62] for i in range(3)]
    assert stopped == "\n\n".join(row.partition("e")[0] for row in rows) + "\n"


def test_a_sample_ends_at_a_line_end_within_its_limit(trained: Path, command: Command) -> None:
    argv = ["--run", "mine", "--prompt", "Ay", "--max-new-chars", "300", "--temperature", "1"]
    _, whole, _ = command(sample.main, *argv, "--end", "length")
    code, out, err = command(sample.main, *argv)
    assert (code, err) == (0, "")
    assert len(out) < len(whole) == 2 + 300 + 1
    assert whole.startswith(out)


def test_json_lines_hold_the_text_and_how_it_came_to_be(trained: Path, command: Command) -> None:
    argv = ["--run", "mine", "--prompt", "Ay", "--num-samples", "2", "--seed", "3"]
    code, out, err = command(sample.main, *argv, "--json")
    assert (code, err) == (0, "")
    rows = [json.loads(line) for line in out.splitlines()]
    assert (
        "\n\n".join("Ay" + row.pop("text") for row in rows) + "\n" == command(sample.main, *argv)[1]
    )
    about = {"prompt": "Ay", "ended": "line", "step": 3, "seed": 3}
    assert rows == [{"sample": 1, **about}, {"sample": 2, **about}]


def test_a_text_that_the_model_cannot_know_names_what_the_shell_reads(
    trained: Path, command: Command
) -> None:
    for flag, text in (("--stop", r"\n\n"), ("--prompt", r"Ay\nme")):
        answer = command(sample.main, "--run", "mine", flag, text)
        assert_contract(answer, 2, f"{flag}: the model does not know '\\\\'")
        assert f"{flag} $'{text}'" in answer[2]
    Path("typed.txt").write_text(r"Ay\nme")
    assert "$'" not in command(sample.main, "--run", "mine", "--prompt-file", "typed.txt")[2]


def test_a_blank_text_is_explained(
    trained: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only there, only where the user has not chosen the start; stdout is as it is."""
    argv = ["--run", "mine", "--max-new-chars", "3"]
    assert command(sample.main, *argv)[2] == ""
    monkeypatch.setattr("gpt.generation.generate.sample_next", lambda logits, *_: np.array([0]))
    code, out, err = command(sample.main, *argv)
    assert (code, out) == (0, "\n" * 4)
    assert err.startswith("the text is blank: without a prompt the model starts after a line end")
    assert command(sample.main, *argv, "--prompt", "Ay")[2] == ""
    assert command(sample.main, *argv[:2], "--max-new-chars", "0")[2] == ""


def test_text_is_utf8_wherever_it_is_written(
    trained: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the environment asks for another encoding: what is written is a UTF-8 text."""
    Path("new.txt").write_text("other words, éé\n" * 40, "utf-8")
    argv = [*TOY, "--init-from", "mine", "--data.text", "new.txt", "--train.max_steps", "0"]
    assert command(train.main, *argv, "--run.dir", "tuned")[0] == 0
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding="ascii"))
    argv = ["--run", "tuned", "--prompt", "é", "--max-new-chars", "0"]
    assert command(sample.main, *argv)[0] == 0
    assert written.getvalue() == "é\n".encode()
