"""Work that takes its time: the search for Mersenne primes."""

from __future__ import annotations

from math import isqrt

LARGEST_EXPONENT = 4423


def exponents(largest: int = LARGEST_EXPONENT) -> list[int]:
    """Return the odd primes up to `largest`: no other odd exponent gives a prime."""
    return [n for n in range(3, largest + 1, 2) if all(n % divisor for divisor in range(2, isqrt(n) + 1))]


def is_mersenne_prime(exponent: int) -> bool:
    """Tell whether 2 ** exponent - 1 is prime (Lucas-Lehmer), for an odd prime exponent."""
    mersenne = (1 << exponent) - 1
    term = 4
    for _ in range(exponent - 2):
        term = (term * term - 2) % mersenne
    return term == 0
