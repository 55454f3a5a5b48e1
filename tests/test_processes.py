"""One process's part in a training: its rows, its seed, its share of an evaluation."""

from typing import Any

import pytest
import torch

from gpt.config import Config
from gpt.data.corpus import Corpus
from gpt.errors import Exit, Mistake
from gpt.evaluate import exact_loss
from gpt.model import GPT
from gpt.processes import Processes, Stopped, require_shares
from gpt.training.trainer import step_seed


def one_of(size: int, rank: int = 0) -> Processes:
    processes = Processes()
    processes.size, processes.rank = size, rank  # type: ignore[misc]
    return processes


@pytest.mark.parametrize("size", [1, 2, 3, 4])
def test_the_shares_are_the_batch_in_order(size: int) -> None:
    rows = list(range(12))
    shares = [rows[one_of(size, rank).rows(12)] for rank in range(size)]
    assert [row for share in shares for row in share] == rows
    assert {len(share) for share in shares} == {12 // size}


@pytest.mark.parametrize(
    ("batch_size", "accumulate", "size", "fix"),
    [
        (12, 1, 5, "--train.batch_size 10 or 15"),
        (4, 2, 3, "--train.batch_size 6"),
        (6, 3, 4, "--train.batch_size 12"),
    ],
)
def test_a_batch_that_cannot_be_shared_is_refused_with_the_nearest_sizes(
    toy_config: Config, batch_size: int, accumulate: int, size: int, fix: str
) -> None:
    sizes = {"batch_size": batch_size, "accumulate": accumulate}
    config = toy_config.train.model_copy(update=sizes)
    with pytest.raises(Mistake) as refusal:
        require_shares(config, one_of(size))
    assert (refusal.value.exit_code, refusal.value.fix) == (Exit.USAGE, fix)
    require_shares(config.model_copy(update={"batch_size": size * accumulate}), one_of(size))


def test_one_gpu_is_not_for_several_processes(toy_config: Config) -> None:
    config = toy_config.train.model_copy(update={"device": "cuda:1"})
    require_shares(config, one_of(1))
    with pytest.raises(Mistake, match="cuda:1 is one GPU, and there are 2 processes"):
        require_shares(config, one_of(2))


def test_the_first_process_draws_the_dropout_of_one_alone_and_the_others_their_own() -> None:
    seeds = [step_seed(2**40, 10**11, rank) for rank in range(4)]
    assert seeds[0] == step_seed(2**40, 10**11)
    assert len(set(seeds)) == 4


@pytest.mark.parametrize("size", [2, 3, 50])
def test_the_shares_of_an_evaluation_add_up_to_the_exact_loss(
    toy_config: Config, toy_corpus: Corpus, size: int
) -> None:
    """Also where there are more processes than forward passes."""
    torch.manual_seed(1)
    model, ids = GPT(toy_config.model, len(toy_corpus.tokenizer)), toy_corpus.val_ids
    parts = [exact_loss(model, ids, 16, share=(rank, size)) for rank in range(size)]
    assert sum(parts) == pytest.approx(exact_loss(model, ids, 16), rel=1e-12)
    assert min(parts) < max(parts)


def test_one_process_averages_nothing() -> None:
    tensors = [torch.tensor([1.0, torch.nan]), torch.tensor(2.0)]
    before = [tensor.clone() for tensor in tensors]
    alone = Processes()
    alone.average(tensors)
    assert all(
        torch.equal(
            a,
            b,
        )
        or a.isnan().any()
        for a, b in zip(tensors, before, strict=True)
    )
    assert (alone.total(0.1), alone.from_leader(b"x"), alone.begun) == (0.1, b"x", None)
    assert alone.leads


def test_a_part_of_an_evaluation_that_a_signal_ends_is_stopped() -> None:
    alone = Processes()
    assert alone.together(lambda: 2.5) == 2.5
    assert alone.together(lambda: None) == 0

    def part() -> float:
        alone.heard = 15
        raise Stopped

    with pytest.raises(Stopped):
        alone.together(part)


def test_the_second_signal_ends_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    codes: list[Any] = []
    monkeypatch.setattr("gpt.processes.os._exit", codes.append)
    alone = Processes()
    alone.hear(15)
    assert (alone.stop_signal, codes) == (15, [])
    alone.hear(2)
    assert codes == [130]
