"""The rule's constants are those of the fit to the runs on record."""

import json

import pytest

from gpt.training import scaling
from scripts import study


def test_the_constants_are_those_of_the_fit(capsys: pytest.CaptureFixture[str]) -> None:
    study.main(["fit"])
    lines = [line for line in capsys.readouterr().out.splitlines() if " = " in line]
    fitted = {name: float(value) for name, _, value in (line.split() for line in lines)}
    assert fitted == {name: pytest.approx(getattr(scaling, name), rel=0.02) for name in fitted}
    assert set(fitted) == set(study.CONSTANTS)


def test_the_rule_is_near_the_runs_that_it_was_fitted_to() -> None:
    rows = [json.loads(line) for line in study.ROWS.read_text("utf-8").splitlines()]
    best: dict[tuple[int, int], float] = {}
    for row in rows:
        if row["text"] == study.TEXT:
            cell = row["parameters"], row["read"]
            best[cell] = min(best.get(cell, 9), row["val_loss"])
    for (parameters, read), loss in best.items():
        assert scaling.expected_loss(parameters, read, 1_003_854) == pytest.approx(loss, abs=0.02)
