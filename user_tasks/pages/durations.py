"""Lengths of time in the active language."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from django.utils.timesince import timesince
from django.utils.translation import gettext as _
from django.utils.translation import ngettext, npgettext_lazy

MINUTE = timedelta(minutes=1)

ROUGH = 5
"""The seconds in which a time is counted that is still changing: pages that show it need not change each second."""

UNITS: dict[str, Any] = {
    "year": npgettext_lazy("duration", "%(num)d year", "%(num)d years", "num"),
    "month": npgettext_lazy("duration", "%(num)d month", "%(num)d months", "num"),
    "week": npgettext_lazy("duration", "%(num)d week", "%(num)d weeks", "num"),
    "day": npgettext_lazy("duration", "%(num)d day", "%(num)d days", "num"),
    "hour": npgettext_lazy("duration", "%(num)d hour", "%(num)d hours", "num"),
    "minute": npgettext_lazy("duration", "%(num)d minute", "%(num)d minutes", "num"),
}
"""Those of `timesince`, which Django has not in all of our languages."""


def exact(duration: timedelta) -> str:
    """Return a time that has passed, in seconds up to a minute."""
    return _seconds(int(duration.total_seconds())) if duration < MINUTE else _longer(duration)


def rough(duration: timedelta) -> str:
    """Return a time that is still passing, in steps of `ROUGH` seconds up to a minute."""
    if duration >= MINUTE:
        return _longer(duration)
    seconds = int(duration.total_seconds()) // ROUGH * ROUGH
    return _seconds(seconds) if seconds else _("a few seconds")


def _seconds(seconds: int) -> str:
    if seconds < 1:
        return _("less than a second")
    return ngettext("%(seconds)d second", "%(seconds)d seconds", seconds) % {"seconds": seconds}


def _longer(duration: timedelta) -> str:
    beginning = datetime(2001, 1, 1)  # noqa: DTZ001 - any will do, both ends lie in no time zone
    return timesince(beginning, beginning + duration, time_strings=UNITS)
