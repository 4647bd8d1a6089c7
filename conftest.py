"""Fixtures of our own tests; a suite that others drop into ``tests/`` brings a ``conftest.py`` beside its tests."""

from __future__ import annotations
