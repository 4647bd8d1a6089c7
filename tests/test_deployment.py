"""The page about deployment, and the files that it shows."""

from __future__ import annotations

import re
import shlex
from configparser import ConfigParser
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml
from celery import current_app
from celery.bin.celery import celery as celery_command
from django.core.management import get_commands

from documents import ROOT, Block, code_blocks, executed

PAGE = ROOT / "docs" / "deployment.rst"
FILES = ROOT / "docs" / "deployment"
UNITS = sorted(FILES.glob("*.service"))
PROGRAMS = {"gunicorn", "redis-server"}
"""Programs of others, whose options are not looked at."""

pytestmark = pytest.mark.embedded


def unit(path: Any) -> ConfigParser:
    """Return a unit; no option may stand in a section twice."""
    parser = ConfigParser(interpolation=None, delimiters=("=",), comment_prefixes=("#",))
    parser.optionxform = str  # type: ignore[assignment, method-assign]  # systemd tells upper from lower case
    parser.read_string(path.read_text(encoding="utf-8"))
    return parser


def compose() -> Any:
    return yaml.safe_load((FILES / "compose.yaml").read_text(encoding="utf-8"))


def own_services() -> dict[str, Any]:
    """Return the services that run the project."""
    return {name: service for name, service in compose()["services"].items() if "build" in service}


def variables() -> dict[str, str]:
    return dict(line.split("=", 1) for line in (FILES / "mysite.env").read_text(encoding="utf-8").splitlines())


def blocks(language: str, caption: str = "") -> list[Block]:
    return [block for block in code_blocks(PAGE) if block.language == language and caption in block.caption]


COMMANDS = [
    *(pytest.param(unit(path)["Service"]["ExecStart"], id=path.stem) for path in UNITS),
    *(
        pytest.param(service["command"], id=f"compose-{name}")
        for name, service in compose()["services"].items()
        if "command" in service
    ),
    *(
        pytest.param(line.removeprefix("$ "), id=line.removeprefix("$ "))
        for block in blocks("console")
        for line in block.source.splitlines()
        if "manage.py" in line
    ),
]


@pytest.mark.parametrize("command", COMMANDS)
def test_command_is_there_with_its_options(command: str) -> None:
    program, *arguments = shlex.split(command.removeprefix("/srv/mysite/.venv/bin/"))
    if program == "celery":
        assert arguments[:2] == ["--app", "mysite"]
        subcommand = celery_command.commands[arguments[2]]
        known = {option for parameter in subcommand.params for option in parameter.opts}
        assert {argument for argument in arguments[3:] if argument.startswith("-")} <= known
    elif program == "python":
        assert arguments[0] == "manage.py"
        assert arguments[1] in get_commands()
    else:
        assert program in PROGRAMS


@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.stem)
def test_unit_runs_the_project_and_starts_with_the_machine(path: Any) -> None:
    parser = unit(path)
    service = parser["Service"]
    assert parser.sections() == ["Unit", "Service", "Install"]
    assert parser["Install"]["WantedBy"] == "multi-user.target"
    assert (service["User"], service["WorkingDirectory"]) == ("mysite", "/srv/mysite")
    assert service["EnvironmentFile"] == "/etc/mysite.env"
    assert service["Restart"] == "always"


def test_worker_is_left_to_end_its_tasks() -> None:
    service = unit(FILES / "mysite-worker.service")["Service"]
    assert (service["KillMode"], service["OOMPolicy"]) == ("mixed", "continue")
    assert service["TimeoutStopSec"].replace("min", "m") == own_services()["worker"]["stop_grace_period"]


def test_containers_run_what_the_units_run() -> None:
    units = {path.stem.removeprefix("mysite-") for path in UNITS}
    assert own_services().keys() == {*units, "migrate"}
    for name in units:
        command = unit(FILES / f"mysite-{name}.service")["Service"]["ExecStart"].removeprefix("/srv/mysite/.venv/bin/")
        assert own_services()[name]["command"].split()[:4] == command.split()[:4]


def test_compose_file_names_only_what_is_there() -> None:
    whole = compose()
    for service in whole["services"].values():
        assert set(service.get("depends_on", {})) <= whole["services"].keys()
        volumes = {volume.partition(":")[0] for volume in service.get("volumes", [])}
        assert volumes <= whole["volumes"].keys()
    assert whole["services"]["migrate"]["restart"] == "no"


def test_services_on_which_others_wait_for_health_have_a_check() -> None:
    services = compose()["services"]
    waited_for = {
        name
        for service in services.values()
        for name, condition in service.get("depends_on", {}).items()
        if condition["condition"] == "service_healthy"
    }
    assert waited_for == {"database", "broker"}
    assert all("healthcheck" in services[name] for name in waited_for)


def test_settings_read_the_variables_that_the_files_give(monkeypatch: pytest.MonkeyPatch) -> None:
    block = blocks("python", "settings.py")[0]
    read = set(re.findall(r'os\.environ\["(\w+)"\]', block.source))
    for service in own_services().values():
        assert service["environment"].keys() == variables().keys() == read | {"DJANGO_SETTINGS_MODULE"}
    for name, value in variables().items():
        monkeypatch.setenv(name, value)
    settings = executed(block, "mysite.settings")
    assert variables()["BROKER_URL"] == settings.CELERY_BROKER_URL
    assert variables()["DATABASE_HOST"] == settings.DATABASES["default"]["HOST"]
    assert {entry["task"] for entry in settings.CELERY_BEAT_SCHEDULE.values()} <= current_app.tasks.keys()


def test_database_of_the_compose_file_is_that_of_the_settings() -> None:
    database = compose()["services"]["database"]["environment"]
    for service in own_services().values():
        for name, theirs in (("NAME", "DB"), ("USER", "USER"), ("PASSWORD", "PASSWORD")):
            assert service["environment"][f"DATABASE_{name}"] == database[f"POSTGRES_{theirs}"]
        assert service["environment"]["DATABASE_HOST"] in compose()["services"]
        assert urlsplit(service["environment"]["BROKER_URL"]).hostname in compose()["services"]


def test_pgbouncer_is_asked_where_it_listens() -> None:
    pgbouncer = ConfigParser(interpolation=None)
    pgbouncer.read_string(blocks("ini", "pgbouncer.ini")[0].source)
    settings: dict[str, Any] = {"DATABASES": {"default": {}}}
    exec(blocks("python", "settings.py")[1].source, settings)
    assert pgbouncer["pgbouncer"]["pool_mode"] == "transaction"
    assert settings["DATABASES"]["default"] == {
        "PORT": int(pgbouncer["pgbouncer"]["listen_port"]),
        "DISABLE_SERVER_SIDE_CURSORS": True,
    }


def test_services_that_are_restarted_are_units_of_the_page() -> None:
    lines = [line for block in blocks("console") for line in block.source.splitlines() if "systemctl" in line]
    restarted = {word for line in lines for word in line.split() if word.startswith("mysite-")}
    assert restarted == {path.stem for path in UNITS}


def test_each_file_is_shown_on_the_page() -> None:
    shown = re.findall(r"literalinclude:: deployment/(\S+)", PAGE.read_text(encoding="utf-8"))
    assert sorted(shown) == sorted(path.name for path in FILES.iterdir())
