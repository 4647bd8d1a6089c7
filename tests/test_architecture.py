from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import user_tasks

pytestmark = pytest.mark.embedded

PACKAGE = Path(user_tasks.__file__).parent

RINGS = {
    "core": {
        "__init__",
        "access",
        "conf",
        "containers",
        "content_types",
        "documentation",
        "downloads",
        "estimates",
        "exceptions",
        "file_names",
        "heartbeat",
        "lifetimes",
        "links",
        "logs",
        "losses",
        "migrations",
        "models",
        "notifications",
        "orphans",
        "outages",
        "outputs",
        "paginators",
        "querysets",
        "ranges",
        "recording",
        "removal",
        "states",
        "stored_files",
        "texts",
        "threads",
        "tracking",
        "transitions",
    },
    "celery": {
        "calls",
        "canvas",
        "deferral",
        "executions",
        "explanations",
        "publishing",
        "signals",
        "task_checks",
        "tasks",
        "utils",
    },
    "rules": {"rules"},
    "rest": {
        "detailed",
        "examples",
        "filters",
        "openapi",
        "pagination",
        "responses",
        "searching",
        "serializers",
        "urls",
        "views",
    },
    "html": {"pages", "templatetags"},
    "operations": {"admin", "checks", "management", "reports"},
    "metrics": {"opentelemetry", "prometheus"},
    "testing": {"pytest_plugin", "testing"},
    "start": {"apps"},
}
"""Which modules, or subpackages, belong to which ring."""

IMPORTS_FROM = {
    "core": {"core"},
    "celery": {"core", "celery"},
    "rules": {"core", "rules"},
    "rest": {"core", "rules", "rest"},
    "html": {"core", "rules", "html"},
    "operations": {"core", "rules", "operations"},
    "metrics": {"core", "metrics"},
    "testing": {"core", "celery", "rules", "testing"},
    "start": set(RINGS),
}
"""The arrows: which rings the modules of a ring may import."""

LIBRARIES = {
    "celery": {"celery", "operations", "testing"},
    "kombu": {"celery"},
    "billiard": {"celery"},
    "django_filters": {"rest"},
    "opentelemetry": {"metrics"},
    "prometheus_client": {"metrics"},
    "pytest": {"testing"},
    "rest_framework": {"rest"},
    "drf_spectacular": {"rest"},
    "rules": {"rules", "testing"},
}
"""The only rings that may import each of these distributions."""


def module_files() -> list[str]:
    return sorted(path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*.py"))


def ring_of(module: str) -> str:
    rings = [ring for ring, modules in RINGS.items() if module in modules]
    assert len(rings) == 1, f"{module} must stand in one ring of the table, and stands in {rings}"
    return rings[0]


def imported_names(file: str) -> Iterator[str]:
    """Yield the absolute name of everything that the file imports, at its top or inside its functions."""
    package = ("user_tasks", *Path(file).parent.parts)
    for node in ast.walk(ast.parse((PACKAGE / file).read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            yield from (".".join((*base, *filter(None, [node.module]), alias.name)) for alias in node.names)


def own_module(name: str) -> str:
    """Return the module right under the package that an absolute name below ``user_tasks`` stands in."""
    first = [*name.split("."), "__init__"][1]
    return first if (PACKAGE / first).is_dir() or (PACKAGE / f"{first}.py").is_file() else "__init__"


@pytest.mark.parametrize("file", module_files())
def test_module_imports_inward_only(file: str) -> None:
    ring = ring_of(Path(file).parts[0].removesuffix(".py"))
    imports = {name for name in imported_names(file) if name.split(".")[0] == "user_tasks"}
    outward = {name for name in imports if ring_of(own_module(name)) not in IMPORTS_FROM[ring]}
    assert not outward


@pytest.mark.parametrize("file", module_files())
def test_module_imports_only_the_libraries_of_its_ring(file: str) -> None:
    ring = ring_of(Path(file).parts[0].removesuffix(".py"))
    foreign = {name for name in imported_names(file) if ring not in LIBRARIES.get(name.split(".")[0], {ring})}
    assert not foreign
