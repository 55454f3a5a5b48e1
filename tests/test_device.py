"""Which device and precision a run uses."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

import sample
import train
from gpt.command.config_file import overridden
from gpt.config import Config
from gpt.device import device_name, find_device, use_device, uses_bf16
from gpt.errors import Exit, Mistake
from gpt.model import GPT
from gpt.training.run import train_new
from scripts import evaluate


def test_auto_precision_is_a_function_of_the_cpu_and_the_width(
    toy_config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    wide = overridden(toy_config, {"model.n_embd": 128})
    for able in (False, True):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda able=able: {"avx512_bf16": able})
        assert uses_bf16(wide) == able
        assert not uses_bf16(toy_config)  # too small to gain anything


def test_a_device_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert find_device("cuda:1") == torch.device("cuda:1")
    for name in ("cuda:2", "cuda:256", "cuda:200", "cuda:", "mps", "meta", "tpu", "cpu:1", ""):
        with pytest.raises(Mistake, match=rf"device {name} .* cpu \(1\), cuda \(2\)$") as caught:
            find_device(name)
        assert caught.value.exit_code == Exit.USAGE


def test_auto_is_cuda_where_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)  # never chosen
    for there, expected in ((True, "cuda"), (False, "cpu")):
        monkeypatch.setattr(torch.cuda, "is_available", lambda there=there: there)
        assert find_device("auto") == torch.device(expected)


def test_precision_can_be_given(toy_config: Config) -> None:
    for precision in ("bf16", "fp32"):
        config = overridden(toy_config, {"train.precision": precision})
        assert uses_bf16(config) == (precision == "bf16")


def test_a_gpu_is_named_by_its_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: f"model of {device}")
    assert device_name(torch.device("cpu")) == "cpu"
    assert device_name(torch.device("cuda:1")) == "model of cuda:1"


# --- several GPUs, of a machine that is made up ---------------------------------------------------


class Gpus:
    """Two GPUs, of which torch's functions know the current one; the second has bf16."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.current = 0
        monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        monkeypatch.setattr(torch.cuda, "set_device", self.set_device)
        monkeypatch.setattr(torch.cuda, "device", self.device)
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", self.is_bf16_supported)

    def set_device(self, device: torch.device) -> None:
        assert device.index is not None, "torch refuses a device without an index"
        self.current = device.index

    @contextmanager
    def device(self, device: torch.device) -> Iterator[None]:
        before, self.current = self.current, self.current if device.index is None else device.index
        yield
        self.current = before

    def is_bf16_supported(self, including_emulation: bool = True) -> bool:
        return including_emulation or self.current == 1


@pytest.fixture
def gpus(monkeypatch: pytest.MonkeyPatch) -> Gpus:
    return Gpus(monkeypatch)


@pytest.mark.parametrize(
    ("name", "current"), [("cuda:1", 1), ("cuda:0", 0), ("cuda", 0), ("auto", 0), ("cpu", 0)]
)
def test_the_device_that_is_used_is_the_current_one(gpus: Gpus, name: str, current: int) -> None:
    assert use_device(name) == find_device(name)
    assert gpus.current == current


def test_looking_for_a_device_changes_nothing(gpus: Gpus) -> None:
    find_device("cuda:1")
    assert gpus.current == 0


def test_bf16_that_a_gpu_emulates_does_not_count(gpus: Gpus, toy_config: Config) -> None:
    for name, has_bf16 in (("cuda:0", False), ("cuda:1", True), ("cuda", False), ("auto", False)):
        assert uses_bf16(overridden(toy_config, {"train.device": name})) == has_bf16
        assert gpus.current == 0
    gpus.current = 1
    assert uses_bf16(overridden(toy_config, {"train.device": "cuda"}))
    assert not uses_bf16(overridden(toy_config, {"train.device": "cuda:0"}))


def test_every_command_makes_the_device_current_before_it_puts_a_model_there(
    gpus: Gpus, toy_config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = str(tmp_path / "run")
    train_new(overridden(toy_config, {"run.dir": run, "train.max_steps": 0}), "toy")

    class PutThereError(Exception):
        pass

    def to(self: GPT, device: torch.device) -> None:
        raise PutThereError(device, gpus.current)

    monkeypatch.setattr(GPT, "to", to)
    monkeypatch.setattr(torch.cuda, "get_device_name", str)
    for command, argv in (
        (train.main, ["--resume", run, "--train.device", "cuda:1"]),
        (sample.main, ["--run", run, "--device", "cuda:1"]),
        (evaluate.main, [run, "--device", "cuda:1"]),
    ):
        gpus.current = 0
        with pytest.raises(PutThereError) as caught:
            command(argv)
        assert caught.value.args == (torch.device("cuda:1"), 1)
