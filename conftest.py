"""Fixtures of our own tests, at the root: a suite dropped into ``tests/`` brings its own ``conftest.py``."""

from __future__ import annotations
