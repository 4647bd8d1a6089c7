"""Directives that describe settings, model fields and modules with what the code says about them."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, ClassVar

from django.apps import apps
from django.db.models import CharField
from docutils import nodes
from sphinx.pycode import ModuleAnalyzer
from sphinx.util.docutils import SphinxDirective

import diagrams
from test_architecture import IMPORTS_FROM, RINGS
from test_budgets import BUDGETS
from test_states import VERBS
from user_tasks.conf import Defaults
from user_tasks.states import FINAL, State

if TYPE_CHECKING:
    from docutils.nodes import Node
    from sphinx.application import Sphinx
    from sphinx.util.typing import ExtensionMetadata


class Setting(SphinxDirective):
    """``.. setting:: USER_TASKS_MAX_AGE``: the type, default value and docstring of an attribute of `Defaults`."""

    required_arguments: ClassVar[int] = 1

    def run(self) -> list[Node]:
        """Return the description of the setting, which the role ``data`` refers to."""
        name = self.arguments[0]
        analyzer = ModuleAnalyzer.for_module(Defaults.__module__)
        key = (Defaults.__name__, name)
        options = {"type": analyzer.annotations[key], "value": repr(getattr(Defaults, name))}
        return self.parse_text_to_nodes(described(f"data:: {name}", options, analyzer.find_attr_docs()[key]))


class ModelFields(SphinxDirective):
    """``.. model-fields:: UserTaskStatus``: the fields of a model, with their types and help texts."""

    required_arguments: ClassVar[int] = 1

    def run(self) -> list[Node]:
        """Return the descriptions of the fields."""
        fields = apps.get_model("user_tasks", self.arguments[0])._meta.fields
        return [node for field in fields for node in self._describe(field)]

    def _describe(self, field: Any) -> list[Node]:
        length = f"({field.max_length})" if isinstance(field, CharField) else ""
        options = {"type": f"{type(field).__name__}{length}"}
        return self.parse_text_to_nodes(described(f"attribute:: {field.name}", options, [str(field.help_text)]))


class Ring(SphinxDirective):
    """``.. ring:: core``: the modules of a ring, as the test of the architecture has them, by their docstrings."""

    required_arguments: ClassVar[int] = 1

    def run(self) -> list[Node]:
        """Return a table of the modules."""
        names = [f"user_tasks.{name}" for name in sorted(RINGS[self.arguments[0]] - {"__init__"})]
        told = [name for name in names if find_spec(name) and import_module(name).__doc__]
        return self.parse_text_to_nodes("\n".join([".. autosummary::", "", *(f"   ~{name}" for name in told)]))


class Budgets(SphinxDirective):
    """``.. budgets::``: what operations cost beside what they may cost, as the test of the budgets has it."""

    def run(self) -> list[Node]:
        """Return a table of the operations."""
        rows = [("Operation", "There", "Budget", "Here", "Commits")]
        for operation, budget in BUDGETS.items():
            limit = "" if budget.limit is None else counted(budget.limit)
            rows.append((operation, budget.there, limit, counted(budget.statements), str(budget.commits)))
        cells = [f"   {'* -' if not place else '  -'} {cell}" for row in rows for place, cell in enumerate(row)]
        options = ["   :header-rows: 1", "   :widths: 40 18 16 13 13"]
        return self.parse_text_to_nodes("\n".join([".. list-table::", *options, "", *cells]))


def counted(statements: int | tuple[int, int]) -> str:
    """Return a number of statements, that with the feature of the database in parentheses."""
    return str(statements) if isinstance(statements, int) else f"{statements[0]} ({statements[1]})"


class RingPicture(SphinxDirective):
    """``.. ring-picture::``: which ring lies around which, as the test of the architecture has it."""

    def run(self) -> list[Node]:
        """Return the picture."""
        return [nodes.raw("", diagrams.rings(IMPORTS_FROM, RINGS), format="html")]


class StatePicture(SphinxDirective):
    """``.. state-picture::``: the states, and the verbs that lead to them, as the test of the states has them."""

    def run(self) -> list[Node]:
        """Return the picture."""
        return [nodes.raw("", diagrams.state_machine(entries(), FINAL, State.PENDING), format="html")]


def entries() -> dict[str, list[str]]:
    """Return what asks for each state; all that are none of the known ones come last, as one."""
    found: dict[str, list[str]] = {state: [] for state in State.values}
    found["any other text"] = []
    for verb, (_action, target) in VERBS.items():
        if verb.isidentifier():
            found[target if target in State.values else "any other text"].append(verb)
    return found


def described(directive: str, options: dict[str, str], text: list[str]) -> str:
    """Return the source of a directive of Sphinx's Python domain."""
    lines = [*(f":{name}: {value}" for name, value in options.items()), "", *text]
    return "\n".join([f".. py:{directive}", *(f"   {line}" for line in lines)])


def setup(app: Sphinx) -> ExtensionMetadata:
    """Add the directives to Sphinx."""
    app.add_directive("setting", Setting)
    app.add_directive("model-fields", ModelFields)
    app.add_directive("ring", Ring)
    app.add_directive("budgets", Budgets)
    app.add_directive("ring-picture", RingPicture)
    app.add_directive("state-picture", StatePicture)
    return {"parallel_read_safe": True}
