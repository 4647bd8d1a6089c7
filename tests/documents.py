"""The code of the README and of the documentation."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from sybil import Document
from sybil.parsers.rest.lexers import DirectiveLexer

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = (ROOT / "README.rst", *sorted((ROOT / "docs").glob("*.rst")))


@dataclass(frozen=True)
class Block:
    """A code block; its caption tells where the code belongs."""

    language: str
    source: str
    caption: str


def code_blocks(path: Path) -> list[Block]:
    """Return the code blocks of a document in order."""
    lexer = DirectiveLexer(directive="code-block", arguments=".*")
    return [
        Block(region.lexemes["arguments"], str(region.lexemes["source"]), region.lexemes["options"].get("caption", ""))
        for region in lexer(Document(path.read_text(encoding="utf-8"), str(path)))
    ]


def put(block: Block, folder: Path) -> None:
    """Write the code into the file that its caption names; ``(at the end)`` adds to it."""
    name, _, added = block.caption.partition(" ")
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a" if added else "w", encoding="utf-8") as file:
        file.write(block.source)


def executed(block: Block, name: str) -> ModuleType:
    """Return the block as a module of this name."""
    module = ModuleType(name)
    exec(compile(block.source, name, "exec"), vars(module))
    return module
