"""Real web servers, with a site in front of the tests' database and files."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
from django.conf import settings

from test_settings import BASE_DIR
from workers import database_url, wait_for

COMMANDS = {
    "wsgi": (
        "gunicorn",
        "--bind",
        "127.0.0.1:0",
        "--worker-class",
        "gthread",
        "--no-control-socket",
        "download_site:wsgi",
    ),
    "asgi": ("uvicorn", "--host", "127.0.0.1", "--port", "0", "download_site:asgi"),
}


class Server:
    """A web server on a free port."""

    def __init__(self, interface: str, log_file: Path, **overrides: Any) -> None:
        self.log_file = log_file
        overrides = {"ALLOWED_HOSTS": ["127.0.0.1"], **overrides}
        with log_file.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", *COMMANDS[interface]],
                cwd=BASE_DIR,
                env={
                    **os.environ,
                    "DATABASE_URL": database_url(),
                    "DJANGO_SETTINGS_MODULE": "test_settings",
                    "MEDIA_ROOT": str(settings.MEDIA_ROOT),
                    "PYTHONPATH": os.pathsep.join([str(BASE_DIR), str(BASE_DIR / "tests")]),
                    "SETTINGS_OVERRIDES": json.dumps(overrides),
                },
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        self.url = wait_for(self._address, "A web server that is ready")

    def _address(self) -> str:
        assert self._process.poll() is None, f"The web server has ended:\n{self.log()}"
        found = re.search(r"(?:Listening at:|running on) (http://127\.0\.0\.1:\d+)", self.log())
        return found[1] if found else ""

    def log(self) -> str:
        """Return what the server has logged."""
        return self.log_file.read_text(errors="replace")

    def memory(self) -> int:
        """Return the most memory that one of its processes has held so far, in bytes."""
        process = psutil.Process(self._process.pid)
        return max(_peak(pid) for pid in (process.pid, *(child.pid for child in process.children(recursive=True))))

    def stop(self) -> None:
        """End it."""
        self._process.terminate()
        self._process.wait(30)


def _peak(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    found = re.search(r"VmHWM:\s+(\d+) kB", status)
    assert found
    return int(found[1]) * 1024
