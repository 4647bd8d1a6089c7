"""What is measured, beside the most that it should be."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Figure:
    """One line of the table: how much an operation costs, as a ratio or in a unit."""

    operation: str
    measured: float
    unit: str
    budget: float | None = None
    compared_with: str = ""

    @property
    def is_kept(self) -> bool:
        """Whether the operation costs no more than it should."""
        return self.budget is None or self.measured <= self.budget


@dataclass(frozen=True)
class Scale:
    """How many rounds are measured, and of what size; the short one is to run the code, and says nothing."""

    rounds: int
    tasks: int
    groups: tuple[int, int, int]
    rows: int
    repetitions: int
    items: int
    seconds: int
    purged: int
    purged_at_most: int
    megabytes: int


WHOLE = Scale(
    rounds=3,
    tasks=2_000,
    groups=(100, 1_000, 10_000),
    rows=1_000_000,
    repetitions=300,
    items=1_000_000,
    seconds=5,
    purged=100_000,
    purged_at_most=1_000_000,
    megabytes=2048,
)
SHORT = Scale(
    rounds=1,
    tasks=100,
    groups=(5, 10, 50),
    rows=5_000,
    repetitions=5,
    items=1_000,
    seconds=1,
    purged=1_000,
    purged_at_most=5_000,
    megabytes=8,
)


def alternate(operations: Mapping[str, Callable[[], object]], repetitions: int) -> dict[str, float]:
    """Time operations in turn, so that all meet the same machine; return the median of each, in seconds."""
    taken: dict[str, list[float]] = {name: [] for name in operations}
    for _ in range(repetitions):
        for name, operation in operations.items():
            started = time.perf_counter()
            operation()
            taken[name].append(time.perf_counter() - started)
    return {name: statistics.median(times) for name, times in taken.items()}
