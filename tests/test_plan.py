"""What `--minutes` chooses, on a machine whose speed is given."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import train
from gpt.command.cli import Parser, add_config_flags, overrides_of
from gpt.command.config_file import find_config, load_config, overridden
from gpt.config import Config
from gpt.data.corpus import Corpus
from gpt.data.shares import split_at
from gpt.data.tokenizer import CharTokenizer
from gpt.errors import Exit, Mistake
from gpt.memory import step_memory
from gpt.training import scaling
from gpt.training.pace import training_seconds
from gpt.training.plan import ENDING, EVALUATED, SHAPE, Plan, plan
from gpt.training.speed import Speed

BASE = load_config(find_config("tiny.yaml"))
STARTED = 3.0  # seconds between the start of the process and the plan


def text_of(length: int, val_fraction: float = 0.1) -> Corpus:
    """A corpus of so many characters that takes no memory."""
    ids = np.broadcast_to(np.uint8(0), (length,))
    alphabet = "".join(map(chr, range(97, 97 + 65)))
    return Corpus("text", CharTokenizer(alphabet), ids, "", split_at(length, val_fraction))


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Gives it a speed in floating-point operations a second, [0], which may be changed."""
    flops = [4e10]

    def measured(config: Config, corpus: Corpus) -> Speed:
        parameters, _ = step_memory(config, len(corpus.tokenizer))
        seconds = parameters / flops[0]
        return Speed(character=6 * seconds, update=400 * seconds, evaluated=3 * seconds)

    monkeypatch.setattr("gpt.training.plan.measured", measured)
    monkeypatch.setattr("gpt.training.plan.process_seconds", lambda: STARTED)
    return flops


def chosen(minutes: float, length: int = 1_115_394, given: set[str] | None = None) -> Plan:
    return plan(BASE, text_of(length), given or set(), minutes)


@pytest.mark.usefixtures("machine")
@pytest.mark.parametrize("minutes", [1, 2, 10, 60, 600])
def test_the_plan_ends_in_time(minutes: float) -> None:
    found = chosen(minutes)
    corpus = text_of(1_115_394, found.config.data.val_fraction)
    seconds = STARTED + training_seconds(found.config, found.speed, corpus, owed=True) + ENDING
    assert seconds <= 60 * minutes
    assert seconds >= 0.97 * 60 * minutes


def split_rest(config: Config, length: int = 1_115_394) -> int:
    return length - split_at(length, config.data.val_fraction)


@pytest.mark.usefixtures("machine")
def test_more_time_means_a_larger_model_that_reads_more() -> None:
    plans = [chosen(minutes).config for minutes in (1, 3, 10, 30, 100)]
    widths = [config.model.n_embd for config in plans]
    read = [c.train.max_steps * c.train.batch_size * c.model.block_size for c in plans]
    assert widths == sorted(widths)
    assert len(set(widths)) > 2
    assert read == sorted(read)


def test_a_faster_machine_gets_what_more_time_gets(machine: list[float]) -> None:
    slow = chosen(30).config.model.n_embd
    machine[0] *= 10
    assert chosen(30).config.model.n_embd > slow


@pytest.mark.usefixtures("machine")
def test_the_shape_has_the_lowest_loss_of_all() -> None:
    """Larger ones, which were not tried, too."""
    found = chosen(10)
    losses = {}
    for shape in scaling.SHAPES:
        given = dict(zip(SHAPE, shape, strict=True))
        config = plan(overridden(BASE, given), text_of(1_115_394), set(given), 10).config
        parameters, _ = step_memory(config, 65)
        read = config.train.max_steps * config.train.batch_size * config.model.block_size
        losses[shape.n_embd] = scaling.expected_loss(parameters, read, 1_003_854)
    assert losses[found.config.model.n_embd] <= min(losses.values()) + 2e-3


@pytest.mark.usefixtures("machine")
def test_what_the_user_gave_stays() -> None:
    keys = {"model.n_embd": 48, "train.batch_size": 7, "train.weight_decay": 0.3}
    found = plan(overridden(BASE, keys), text_of(10**6), set(keys), 5)
    model, train = found.config.model, found.config.train
    assert (model.n_embd, train.batch_size, train.weight_decay) == (48, 7, 0.3)
    assert (model.n_layer, model.block_size) == (BASE.model.n_layer, BASE.model.block_size)
    assert not set(keys) & set(found.reasons)


@pytest.mark.usefixtures("machine")
def test_a_batch_is_a_multiple_of_its_pieces() -> None:
    base = overridden(BASE, {"train.accumulate": 5, "train.batch_size": 5})
    found = plan(base, text_of(10**6), {"train.accumulate"}, 5).config.train
    assert found.batch_size % 5 == 0
    assert found.accumulate == 5


@pytest.mark.usefixtures("machine")
def test_its_lines_are_the_flags_of_its_config() -> None:
    found = chosen(2)
    parser = Parser()
    add_config_flags(parser)
    lines = list(found.lines())[1:]
    argv = [word for line in lines for word in line.split("#")[0].split()]
    assert overridden(BASE, overrides_of(parser.parse_all(argv))) == found.config
    assert all(line.split("#")[1].strip() for line in lines)


@pytest.mark.usefixtures("machine")
def test_a_long_validation_split_is_cut_to_what_can_be_evaluated() -> None:
    found = chosen(2, 10**9)
    kept = split_rest(found.config, 10**9)
    assert kept * found.speed.evaluated <= 1.01 * EVALUATED * 120
    assert "data.val_fraction" in found.reasons
    assert chosen(2).config.data.val_fraction == BASE.data.val_fraction


@pytest.mark.usefixtures("machine")
def test_a_given_split_is_not_cut() -> None:
    with pytest.raises(Mistake, match="too short") as raised:
        chosen(2, 10**9, {"data.val_fraction"})
    assert raised.value.exit_code == Exit.USAGE
    (least,) = [float(word) for word in raised.value.fix.split() if word[0].isdigit()]
    assert chosen(least, 10**9, {"data.val_fraction"}).config.train.max_steps > 0


@pytest.mark.usefixtures("machine")
def test_no_context_is_longer_than_the_validation_split() -> None:
    found = chosen(600, 2_000).config
    assert found.model.block_size < split_rest(found, 2_000)


@given(st.integers(10**4, 10**8), st.floats(1e4, 1e10), st.integers(10**3, 10**9))
def test_more_parameters_or_text_or_reading_is_never_expected_to_harm(
    parameters: int, read: float, text: int
) -> None:
    loss = scaling.expected_loss(parameters, read, text)
    assert scaling.expected_loss(2 * parameters, read, text) <= loss
    assert scaling.expected_loss(parameters, 2 * read, text) <= loss
    assert scaling.expected_loss(parameters, read, 2 * text) <= loss
    assert math.isfinite(loss)


@pytest.mark.parametrize(
    "flags",
    [
        ["--config", "small.yaml"],
        ["--print-config"],
        ["--train.max_steps", "5"],
        ["--train.decay_fraction", "1"],
        ["--log.eval_every", "5"],
        ["--log.save_every", "5"],
    ],
)
def test_what_minutes_chooses_cannot_be_given(flags: list[str]) -> None:
    with pytest.raises(Mistake, match="--minutes chooses") as raised:
        train.main(["--minutes", "2", *flags])
    assert raised.value.exit_code == Exit.USAGE


def test_a_resumed_run_has_its_time_already() -> None:
    with pytest.raises(Mistake, match="--resume"):
        train.main(["--minutes", "2", "--resume", "somewhere"])
