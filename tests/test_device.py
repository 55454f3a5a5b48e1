"""Which device and precision a run uses."""

import pytest
import torch

from gpt.command.config_file import overridden
from gpt.config import Config
from gpt.device import device_name, find_device, uses_bf16
from gpt.errors import Exit, Mistake


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
    for name in ("cuda:2", "mps", "tpu", "cpu:1"):
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
