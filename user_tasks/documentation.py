"""Where the documentation is, for those who have nothing but the installed package."""

from __future__ import annotations

DOCUMENTATION = "https://django-user-tasks.readthedocs.io/en/latest"


def see_check(number: str) -> str:
    """Return what sends readers of a hint to the section about a system check, such as ``W001``."""
    return f"See {DOCUMENTATION}/checks.html#{number.lower()}"
