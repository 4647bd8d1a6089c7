"""New projects, made as the documentation says: ``python tests/projects.py htmx FOLDER``.

``existing`` is a project that has been there since 4.x, and is upgraded.
"""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import takewhile
from pathlib import Path

from documents import ROOT, Block, code_blocks, put
from frontends import MODULES, Frontend
from ports import HOST, free_port

ADDRESS = "127.0.0.1:8000"

PATIENCE = 120
"""Seconds that a command may take."""

SERVERS = ("python manage.py runserver", "celery -A mysite worker")
NOT_RUN = ("python -m pip install django-user-tasks", "python manage.py shell", "npm install")

PAGES = {"htmx": ("frontend_project", "htmx"), "typescript": ("frontend_project", "typescript")}
"""What is read after the tutorial."""

DOWNLOADS = {
    "htmx": (MODULES / "htmx.org" / "dist" / "htmx.min.js", "static/htmx.min.js"),
    "typescript": (ROOT / "docs" / "openapi.yaml", "openapi.yaml"),
}
"""The files that the pages tell to fetch, and where they go."""

EXISTING = ROOT / "tests" / "existing_project"


def blocks_of(page: str) -> list[Block]:
    """Return the code blocks of a page."""
    return code_blocks(ROOT / "docs" / f"{page}.rst")


def free_address() -> str:
    """Return an address at which nobody listens."""
    return f"{HOST}:{free_port()}"


class Project:
    """A folder in which somebody does what pages say, with an address of its own for its web server."""

    def __init__(self, folder: Path, servers: ExitStack, **variables: str) -> None:
        self.folder = folder
        self.servers = servers
        self.variables = variables
        self.address = free_address()
        self.outputs: list[str] = []

    def environment(self) -> dict[str, str]:
        """Return a newcomer's variables: nothing about other settings, and this Python's programs first."""
        others = ("DJANGO_SETTINGS_MODULE", "DATABASE_URL", "CELERY_BROKER_URL", "CELERY_RESULT_BACKEND", "PYTHONPATH")
        kept = {name: value for name, value in os.environ.items() if name not in others}
        path = os.pathsep.join([str(Path(sys.executable).parent), kept["PATH"]])
        return {**kept, "PATH": path, **self.variables}

    def follow(self, block: Block) -> None:
        """Write the file, or run the commands."""
        if block.caption == "manage.py shell":
            self.shell(block.source)
        elif block.language == "console":
            for line in block.source.splitlines():
                self.enter(line.removeprefix("$ "))
        elif block.caption:
            put(block, self.folder)

    def shell(self, source: str) -> None:
        """Execute Python in the project."""
        self.run(["python", "manage.py", "shell", "-c", source])

    def enter(self, line: str) -> None:
        """Run a line of a terminal; a server runs on."""
        command = shlex.split(line.replace(ADDRESS, self.address))
        if line.startswith(SERVERS):
            without_reloading = ["--noreload"] if "runserver" in command else []
            self.servers.enter_context(self.serve([*command, *without_reloading]))
        elif line == "python manage.py migrate user_tasks zero":
            self.servers.close()
            self.run(command)
        elif command[0] == "npx":
            Frontend(self.folder).run(*command[1:])
        elif not line.startswith(NOT_RUN):
            self.run(command)

    def run(self, command: list[str]) -> None:
        """Run a command to its end, and keep what it prints."""
        result = subprocess.run(
            command,
            cwd=self.folder,
            env=self.environment(),
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        assert result.returncode == 0, f"{command}\n{result.stdout}{result.stderr}"
        self.outputs.append(result.stdout.strip())

    @contextmanager
    def serve(self, command: list[str]) -> Iterator[None]:
        """Run a server; a worker ends once the tasks that it executes have ended."""
        with (
            self.log_file(command[0]).open("w") as log,
            subprocess.Popen(
                command, cwd=self.folder, env=self.environment(), stdout=log, stderr=log, start_new_session=True
            ) as process,
        ):
            try:
                yield
                process.terminate()
                process.wait(PATIENCE)
            except BaseException:
                os.killpg(process.pid, signal.SIGKILL)
                raise

    def log_file(self, program: str) -> Path:
        """Return where a server logs."""
        return self.folder / f"{program}.log"


def make(kind: str, project: Project) -> None:
    """Make a project of this kind; its database is what remains to be made."""
    if kind == "existing":
        project.enter("django-admin startproject mysite .")
        shutil.copytree(EXISTING, project.folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
        return
    tutorial = takewhile(lambda block: "manage.py migrate" not in block.source, blocks_of("getting_started"))
    for block in (*tutorial, *blocks_of(PAGES[kind][0])):
        project.follow(block)
    downloaded, name = DOWNLOADS[kind]
    shutil.copy(downloaded, project.folder / name)
    for block in blocks_of(PAGES[kind][1]):
        project.follow(block)


def main(kind: str, folder: str) -> None:
    """Make a project in a folder, which must be empty or not there yet."""
    path = Path(folder)
    path.mkdir(parents=True, exist_ok=True)
    if any(path.iterdir()):
        raise SystemExit(f"{path} is not empty.")
    with ExitStack() as servers:
        make(kind, Project(path, servers))


if __name__ == "__main__":
    if len(sys.argv) != 3 or sys.argv[1] not in (*PAGES, "existing"):
        raise SystemExit(f"usage: python tests/projects.py {{{','.join((*PAGES, 'existing'))}}} FOLDER")
    main(*sys.argv[1:])
