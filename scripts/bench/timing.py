"""Times of repeated work, and the speeds that follow from them."""

import time
from collections.abc import Callable
from statistics import median
from typing import Any

from sizes import Shape

Numbers = dict[str, Any]  # raw numbers of one measurement, by name

SPEED = "chars_per_second"


def step_seconds(step: Callable[[], None], warmup: int, steps: int) -> list[float]:
    """Seconds of each of `steps` calls of `step`, after `warmup` calls that are not timed."""
    for _ in range(warmup):
        step()
    return [seconds_of(step) for _ in range(steps)]


def training_speed(shape: Shape, seconds: list[float]) -> Numbers:
    """Characters trained per second in the median of steps that took `seconds`."""
    middle = median(seconds)
    chars = shape.batch_size * shape.block_size
    return {SPEED: chars / middle, "seconds": middle, "steps": seconds}


def sampling_speed(write: Callable[[], None], chars: int, least: float) -> Numbers:
    """Characters written per second by `write`, which writes `chars` of them in all its texts.

    It is called until `least` seconds are filled. The first of several calls is a warm-up; the
    median of the others counts.
    """
    seconds: list[float] = []
    while not seconds or sum(seconds) < least:
        seconds.append(seconds_of(write))
    return {SPEED: chars / median(seconds[1:] or seconds), "seconds": seconds, "chars": chars}


def seconds_of(work: Callable[[], object]) -> float:
    """Seconds that one call of `work` takes."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began
