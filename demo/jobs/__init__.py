"""The jobs that the users of the demo start."""

from __future__ import annotations
