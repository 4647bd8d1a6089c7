"""What holds for every snippet of the documentation; what single ones do is tested with their pages."""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from importlib.util import find_spec

import pytest
from django.core.management import get_commands

from documents import DOCUMENTS, ROOT, Block, code_blocks
from snippet_runner import PROJECTS
from user_tasks.conf import Defaults

BUILT_UPON = {"deployment", "frontend_project", "getting_started", "htmx", "linked_tasks", "react", "typescript", "vue"}
"""Pages whose snippets need each other, or variables; their own tests execute them."""

DJANGO_ADMIN = {"startapp", "startproject"}

pytestmark = pytest.mark.embedded


def snippets(language: str) -> Iterator[Block]:
    for path in (*DOCUMENTS, ROOT / "CONTRIBUTING.rst"):
        yield from (block for block in code_blocks(path) if block.language == language)


def imports() -> set[tuple[str, str]]:
    """Return what the snippets import from where; what belongs to the reader is left out."""
    found = set()
    for block in snippets("python"):
        for node in ast.walk(ast.parse(block.source)):
            if isinstance(node, ast.Import):
                found |= {(alias.name, "") for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                found |= {(node.module, alias.name) for alias in node.names}
    return {(module, name) for module, name in found if module.partition(".")[0] not in PROJECTS}


@pytest.mark.parametrize(("module", "name"), sorted(imports()))
def test_what_a_snippet_imports_is_there(module: str, name: str) -> None:
    assert not name or hasattr(import_module(module), name) or find_spec(f"{module}.{name}")
    assert find_spec(module)


def test_settings_of_the_package_that_snippets_set_are_there() -> None:
    named = {name for block in snippets("python") for name in re.findall(r"\bUSER_TASKS_\w+", block.source)}
    assert named
    assert named <= vars(Defaults).keys()


def test_commands_of_django_that_snippets_call_are_there() -> None:
    lines = [line for block in snippets("console") for line in block.source.splitlines()]
    called = [match[1] for line in lines if (match := re.search(r"manage\.py (\w+)", line))]
    assert len(called) > 5
    assert set(called) <= get_commands().keys() | DJANGO_ADMIN


@pytest.mark.parametrize("block", list(snippets("json")))
def test_json_can_be_read(block: Block) -> None:
    assert json.loads(block.source)


def test_snippets_can_be_executed() -> None:
    pages = [str(path) for path in DOCUMENTS if path.stem not in BUILT_UPON]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "DJANGO_SETTINGS_MODULE": "test_settings"}
    command = [sys.executable, str(ROOT / "tests" / "snippet_runner.py"), *pages]
    result = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
