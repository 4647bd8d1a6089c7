"""Directives that describe settings, model fields and modules with what the code says about them."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, ClassVar

from django.apps import apps
from django.db.models import CharField
from sphinx.pycode import ModuleAnalyzer
from sphinx.util.docutils import SphinxDirective

from test_architecture import RINGS
from user_tasks.conf import Defaults

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


def described(directive: str, options: dict[str, str], text: list[str]) -> str:
    """Return the source of a directive of Sphinx's Python domain."""
    lines = [*(f":{name}: {value}" for name, value in options.items()), "", *text]
    return "\n".join([f".. py:{directive}", *(f"   {line}" for line in lines)])


def setup(app: Sphinx) -> ExtensionMetadata:
    """Add the directives to Sphinx."""
    app.add_directive("setting", Setting)
    app.add_directive("model-fields", ModelFields)
    app.add_directive("ring", Ring)
    return {"parallel_read_safe": True}
