"""What the commands take as arguments."""

from __future__ import annotations

from argparse import ArgumentTypeError
from datetime import timedelta

from django.utils import timezone
from django.utils.dateparse import parse_duration

A_DAY = timedelta(days=1)
"""By less than this a database tells the time in a zone of its own."""

MOST = 2**31 - 1
"""What every database can compare a number of rows with."""


def age(text: str) -> timedelta:
    """Return an age that is given as a number of days, or as a duration such as ``P90D``.

    Raises `ArgumentTypeError` for anything else, for what is negative, and for what leads out of the calendar.
    """
    try:
        found = _duration(text)
        if found is None:
            raise ArgumentTypeError(f"{text!r} is no age. Give a number of days, or a duration such as P90D.")
        if found < timedelta(0):
            raise ArgumentTypeError(f"{text!r} is no age, since it is negative.")
        timezone.now() - found - A_DAY
    except OverflowError:
        raise ArgumentTypeError(f"{text!r} is no age, since it leads out of the calendar.") from None
    return found


def count(text: str) -> int:
    """Return a number of rows, or `MOST` if it is higher.

    Raises `ArgumentTypeError` below 1.
    """
    number = int(text)
    if number < 1:
        raise ArgumentTypeError(f"{number} is not 1 or more.")
    return min(number, MOST)


def _duration(text: str) -> timedelta | None:
    try:
        return timedelta(days=float(text))
    except ValueError:
        return _parsed(text) if any(map(str.isdigit, text)) else None


def _parsed(text: str) -> timedelta | None:
    try:
        return parse_duration(text)
    except ValueError:
        return None
