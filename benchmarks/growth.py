"""How costs grow with size."""

from __future__ import annotations

import math
from collections.abc import Mapping
from statistics import linear_regression


def exponent(costs: Mapping[int, float]) -> float:
    """Return the power of the size that costs grow with: the slope of a line through their logarithms."""
    return linear_regression([math.log(size) for size in costs], [math.log(cost) for cost in costs.values()]).slope
