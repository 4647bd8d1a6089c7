"""Execute the Python snippets of pages, as ``python tests/snippet_runner.py docs/writing_tasks.rst`` does.

This is done in a process of its own, since snippets register tasks, receivers and rules. What they import from the
applications of the reader is made up.
"""

from __future__ import annotations

import sys
from collections.abc import MutableSequence, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

import django

PROJECTS = {"mysite", "reports", "sales", "shop"}
"""The applications of the reader."""


class MadeUp(ModuleType):
    """A module that has a class for every name."""

    __path__: MutableSequence[str] = []

    def __getattr__(self, name: str) -> type:
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (), {})


class Projects(MetaPathFinder, Loader):
    """Finds the applications of the reader, and what is in them."""

    def find_spec(self, fullname: str, path: object, target: object = None) -> ModuleSpec | None:
        is_theirs = fullname.partition(".")[0] in PROJECTS
        return ModuleSpec(fullname, self, is_package=True) if is_theirs else None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return MadeUp(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        pass


def main(pages: Sequence[str]) -> None:
    from documents import code_blocks

    sys.meta_path.insert(0, Projects())
    for page in pages:
        files: dict[str, dict[str, Any]] = {}
        for number, block in enumerate(code_blocks(Path(page))):
            if block.language == "python":
                names = files.setdefault(block.caption, {"DATABASES": {"default": {}}, "__name__": "snippet"})
                exec(compile(block.source, f"{page}, code block {number + 1}", "exec"), names)


if __name__ == "__main__":
    django.setup()
    main(sys.argv[1:])
