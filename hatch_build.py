"""Compile the message catalogs with Babel while a wheel, an sdist or an editable install is made."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po
from hatchling.builders.hooks.plugin.interface import BuildHookInterface


def compile_catalogs(locale_directory: Path) -> None:
    """Write a ``.mo`` beside each ``.po`` that changed under ``locale_directory``."""
    for source in sorted(locale_directory.glob("*/LC_MESSAGES/*.po")):
        target = source.with_suffix(".mo")
        if target.is_file() and target.stat().st_mtime >= source.stat().st_mtime:
            continue
        with source.open("rb") as catalog_file:
            catalog = read_po(catalog_file, locale=source.parts[-3], abort_invalid=True)
        with target.open("wb") as compiled_file:
            write_mo(compiled_file, catalog)


class CompileCatalogs(BuildHookInterface[Any]):
    """Hatchling's entry point."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        compile_catalogs(Path(self.root, "user_tasks", "locale"))


if __name__ == "__main__":
    for folder in ("user_tasks", "demo"):
        compile_catalogs(Path(__file__).parent / folder / "locale")
