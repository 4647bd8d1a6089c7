"""What the files of the project say about each other: workflows, hooks, and how to contribute."""

from __future__ import annotations

import re
from configparser import ConfigParser
from importlib import import_module
from itertools import product
from typing import Any
from xml.etree import ElementTree as ET

import pytest
import yaml
from django.core.management import get_commands

from documents import ROOT, code_blocks
from test_architecture import IMPORTS_FROM, RINGS
from test_states import NOT_FINAL
from user_tasks.states import FINAL, State

WORKFLOWS = ROOT / ".github" / "workflows"
PAGES = [ROOT / "README.rst", ROOT / "CONTRIBUTING.rst", ROOT / "SECURITY.rst"]

pytestmark = pytest.mark.embedded


def parsed(name: str) -> Any:
    return yaml.safe_load((ROOT / name).read_text(encoding="utf-8"))


def workflow(name: str) -> Any:
    """Return a workflow; YAML 1.1 takes its key ``on`` for a boolean."""
    found = parsed(f".github/workflows/{name}")
    return {"on" if key is True else key: value for key, value in found.items()}


def targets() -> set[str]:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    return set(re.findall(r"^([a-z-]+):(?!=)", makefile, re.MULTILINE))


def runs(job: dict[str, Any]) -> list[str]:
    """Return what a job runs, once for each target that its matrix names."""
    names = job.get("strategy", {}).get("matrix", {}).get("target", [""])
    commands = [step["run"] for step in job.get("steps", []) if "run" in step]
    return [command.replace("${{ matrix.target }}", name) for command in commands for name in names]


def made(name: str) -> set[str]:
    """Return what a workflow gives to make, a target or a variable."""
    commands = [command for job in workflow(name)["jobs"].values() for command in runs(job)]
    return {word for command in commands if command.startswith("make ") for word in command.split()[1:]}


def tox_environments() -> set[str]:
    """Return the names that the list in tox.ini stands for."""
    tox = ConfigParser(interpolation=None)
    tox.read(ROOT / "tox.ini")
    found = set()
    for line in tox["tox"]["env_list"].split():
        parts = [part.split(",") for part in re.split(r"[{}]", line)]
        found |= {"".join(choice) for choice in product(*parts)}
    return found


def test_workflow_runs_every_environment_of_tox() -> None:
    matrix = workflow("test.yml")["jobs"]["matrix"]["strategy"]["matrix"]
    pairs = set(product(matrix["python"], matrix["django"]))
    pairs -= {(excluded["python"], excluded["django"]) for excluded in matrix["exclude"]}

    assert {f"py{python.replace('.', '')}-{django}" for python, django in pairs} == {
        environment.rpartition("-")[0] for environment in tox_environments()
    }


def test_versions_of_python_are_those_that_the_package_names() -> None:
    named = re.findall(r"Python :: (3\.\d+)\"", (ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert workflow("test.yml")["jobs"]["matrix"]["strategy"]["matrix"]["python"] == named


@pytest.mark.parametrize("name", sorted(path.name for path in WORKFLOWS.iterdir()))
def test_workflow_makes_targets_that_are_there(name: str) -> None:
    named = {word for word in made(name) if "=" not in word}
    assert named
    assert named <= targets()


def test_workflow_makes_all_that_ci_makes() -> None:
    parts = re.findall(r"^part \S+ make (.+)$", (ROOT / ".ci" / "run").read_text(encoding="utf-8"), re.MULTILINE)
    words = {word for part in parts for word in part.split() if not word.startswith("--")}
    assert {"test", "test-postgresql", "test-faults"} < words
    assert words - {"install"} <= made("test.yml")


def test_workflow_starts_each_server_whose_address_the_makefile_has() -> None:
    addresses = (ROOT / "Makefile").read_text(encoding="utf-8").partition("# Addresses")[2].partition("\n\n")[0]
    job = workflow("test.yml")["jobs"]["servers"]
    ports = [port for service in job["services"].values() for port in service["ports"]]
    assert sorted(ports) == sorted(f"{port}:{port}" for port in re.findall(r":(\d+)/", addresses))


@pytest.mark.parametrize("name", sorted(path.name for path in WORKFLOWS.iterdir()))
def test_workflow_may_only_read_and_knows_no_secret(name: str) -> None:
    assert workflow(name)["permissions"] == {"contents": "read"}
    assert "secrets." not in (WORKFLOWS / name).read_text(encoding="utf-8")


def test_release_is_published_by_its_identity_after_all_tests() -> None:
    release = workflow("release.yml")
    jobs = release["jobs"]
    assert release["on"] == {"push": {"tags": ["v*"]}}
    assert (ROOT / jobs["test"]["uses"]).is_file()
    assert "workflow_call" in workflow("test.yml")["on"]
    assert jobs["publish"]["needs"] == ["test", "build"]
    assert {name: job["permissions"] for name, job in jobs.items() if "permissions" in job} == {
        "publish": {"id-token": "write"}
    }


def hooks() -> list[Any]:
    repositories = parsed(".pre-commit-config.yaml")["repos"]
    assert [repository["repo"] for repository in repositories] == ["local"]
    return [pytest.param(hook, id=hook["id"]) for hook in repositories[0]["hooks"]]


@pytest.mark.parametrize("hook", hooks())
def test_hook_runs_what_is_installed_for_development(hook: dict[str, Any]) -> None:
    program, *arguments = hook["entry"].split()
    installed = re.findall(r'^    "([a-z-]+)>', (ROOT / "pyproject.toml").read_text(encoding="utf-8"), re.MULTILINE)
    assert hook["language"] == "system"
    assert program.removeprefix(".venv/bin/") in {"python", *installed}
    if arguments[:1] == ["manage.py"]:
        assert arguments[1] in get_commands()
    assert all((ROOT / argument).is_file() for argument in arguments if argument.startswith(("tests/", "docs/")))


@pytest.mark.parametrize("hook", [hook for hook in hooks() if "files" in hook.values[0]])
def test_hook_looks_at_files_that_are_there(hook: dict[str, Any]) -> None:
    files = (path.relative_to(ROOT).as_posix() for top in ("user_tasks", "demo") for path in (ROOT / top).rglob("*.*"))
    assert any(re.search(hook["files"], file) for file in files)


@pytest.mark.parametrize(
    "check", ["ruff check", "ruff format", "mypy", "djlint", "makemigrations", "test_architecture"]
)
def test_hooks_do_what_the_makefile_calls_quality(check: str) -> None:
    quality = (ROOT / "Makefile").read_text(encoding="utf-8").partition("\nquality:")[2].partition("\n\n")[0]
    assert check in quality
    assert any(check in hook.values[0]["entry"] for hook in hooks())


@pytest.mark.parametrize("path", PAGES[1:], ids=lambda path: path.stem)
def test_readme_links_to_the_page(path: Any) -> None:
    assert f"<{path.name}>`_" in PAGES[0].read_text(encoding="utf-8")


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_linked_files_are_there(path: Any) -> None:
    linked = re.findall(r"`[^`]+<([^>`]+)>`_", path.read_text(encoding="utf-8"))
    assert linked
    assert not [link for link in linked if not (ROOT / link).is_file() and not link.startswith("https://")]


def test_contributing_names_targets_and_files_that_are_there() -> None:
    text = PAGES[1].read_text(encoding="utf-8")
    named = re.findall(r"\bmake ([a-z-]+)", text)
    files = re.findall(r"``((?:[a-z_.]+/)+[a-z_.]+\.[a-z]+|[a-z]+\.ini)``", text)
    commands = [line for block in code_blocks(PAGES[1]) for line in block.source.splitlines()]
    assert set(named) <= targets()
    assert len(files) > 4
    assert not [file for file in files if not (ROOT / file).is_file()]
    assert all(line.startswith(("$ make ", "$ .venv/bin/")) for line in commands)


@pytest.fixture
def diagrams(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(ROOT / "docs")
    return import_module("diagrams")


def texts(svg: str) -> list[str]:
    return [element.text or "" for element in ET.fromstring(svg).iter("{http://www.w3.org/2000/svg}text")]


def test_picture_of_the_rings_has_each_outside_of_all_that_it_imports(diagrams: Any) -> None:
    placed = {sector.name: sector for sector in diagrams.sectors(IMPORTS_FROM)}
    assert placed.keys() == RINGS.keys()
    for ring, inner in IMPORTS_FROM.items():
        for other in inner - {ring}:
            assert placed[other].inner < placed[ring].inner
            assert max(placed[ring].begin, placed[other].begin) < min(placed[ring].end, placed[other].end)


def test_picture_of_the_rings_has_no_two_in_one_place(diagrams: Any) -> None:
    places = [
        (level, degree)
        for sector in diagrams.sectors(IMPORTS_FROM)
        for level in range(sector.inner, sector.outer)
        for degree in range(round(sector.begin), round(sector.end))
    ]
    assert len(places) == len(set(places)) == 360 * max(level + 1 for level, _degree in places)


def test_rings_that_cannot_be_drawn_are_an_error(diagrams: Any) -> None:
    crossing = {"a", "b", "c"}
    pairs = {f"{one}{other}": {"core", one, other} for one in crossing for other in crossing if one < other}
    imports = {
        "core": set[str](),
        **{ring: {"core"} for ring in crossing},
        **pairs,
        "start": {"core", *crossing, *pairs},
    }
    with pytest.raises(ValueError, match="cannot be drawn"):
        diagrams.sectors(imports)


def test_picture_of_the_rings_names_them(diagrams: Any) -> None:
    assert set(RINGS) <= set(texts(diagrams.rings(IMPORTS_FROM, RINGS)))


def test_picture_of_the_states_has_an_arrow_to_each_final_one(diagrams: Any) -> None:
    entries = {state: [f"to_{state}"] for state in (*NOT_FINAL, *FINAL)}
    svg = diagrams.state_machine(entries, FINAL, State.PENDING.value)
    arrows = list(ET.fromstring(svg).iter("{http://www.w3.org/2000/svg}path"))
    assert set(entries) <= set(texts(svg))
    assert len(arrows) == texts(svg).count("final") == len(FINAL)
