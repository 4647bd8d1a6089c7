"""What a download costs beside a bare ``FileResponse`` of the same file, under WSGI and under ASGI.

Each server is asked for the file in turn by an artifact's link and by a bare ``FileResponse``; the best of the rounds
counts. Under ASGI a bare one is read into memory as a whole, so there it is asked once, and last. The site has settings
of its own, and so this runs in a process of its own: ``python -m benchmarks.download 2048``.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

from .figures import Figure, Scale

ROOT = Path(__file__).resolve().parent
ROUNDS = 3
PATIENCE = 60
MEGABYTE = 1024 * 1024

GROWTH = 50.0
"""Megabytes that a server may grow by."""

SERVERS = {
    "gunicorn": ["--bind", "127.0.0.1:0", "--threads", "4", "download_site:wsgi"],
    "uvicorn": ["--host", "127.0.0.1", "--port", "0", "download_site:asgi"],
}

# Seconds; megabytes that the server's processes grew by.
Result = tuple[float, float]


def figures(scale: Scale) -> Iterator[Figure]:
    """Measure both servers."""
    command = [sys.executable, "-m", __name__, str(scale.megabytes)]
    measured = json.loads(subprocess.check_output(command, cwd=ROOT.parent))
    for server, (ours, bare) in measured.items():
        what = f"download of {scale.megabytes:,} MB, {server}"
        yield Figure(what, ours[0] / bare[0], "x", None, "a bare FileResponse")
        yield Figure(f"{what}: throughput", scale.megabytes / ours[0], "MB/s")
        yield Figure(f"{what}: growth of resident memory", ours[1], "MB", GROWTH)
        yield Figure(f"{what}: growth with a bare FileResponse", bare[1], "MB")


def main(megabytes: int) -> None:
    """Print, as JSON, seconds and megabytes of growth of each server, for an artifact and for a bare response."""
    with TemporaryDirectory(prefix="user_tasks_benchmark_") as folder:
        os.environ["BENCHMARK_FOLDER"] = folder
        url = prepare(Path(folder), megabytes)
        measured = {name: measure(Path(folder), name, arguments, url, megabytes) for name, arguments in SERVERS.items()}
        json.dump(measured, sys.stdout)


def prepare(folder: Path, megabytes: int) -> str:
    """Make the file and the database; return the path of a link to the file."""
    from . import download_site

    download_site.set_up()
    from django.contrib.auth.models import User
    from django.core.management import call_command

    from user_tasks.models import UserTaskArtifact, UserTaskStatus

    block = os.urandom(MEGABYTE)
    with (folder / "large.bin").open("wb") as file:
        for _ in range(megabytes):
            file.write(block)
    (folder / "small.bin").write_bytes(b"small")
    call_command("migrate", verbosity=0)
    status = UserTaskStatus.objects.create(user=User.objects.create(username="owner"), task_id="task", total_steps=1)
    return UserTaskArtifact.objects.create(status=status, file="large.bin").signed_url(timedelta(hours=1))


def measure(folder: Path, server: str, arguments: list[str], url: str, megabytes: int) -> tuple[Result, Result]:
    """Return the results of the artifact and of a bare response, from one server each."""
    rounds = 1 if server == "uvicorn" else ROUNDS
    results: dict[str, list[Result]] = {url: [], "/bare/large.bin": []}
    for _ in range(ROUNDS):
        for path, found in results.items():
            if len(found) < (ROUNDS if path == url else rounds):
                found.append(download(folder, server, arguments, path, megabytes))
    ours, bare = (
        (min(seconds for seconds, _ in found), max(growth for _, growth in found)) for found in results.values()
    )
    return ours, bare


def download(folder: Path, server: str, arguments: list[str], path: str, megabytes: int) -> Result:
    """Fetch a file from a server of its own that has told of it, and sent a small one, before."""
    log = folder / f"{server}.log"
    with log.open("wb") as output:
        process = subprocess.Popen([sys.executable, "-m", server, *arguments], cwd=ROOT, stdout=output, stderr=output)
    try:
        base = address(process, log)
        fetch(f"{base}/bare/small.bin")
        if not path.startswith("/bare/"):
            fetch(f"{base}{path}", "HEAD")
        before = memory(process.pid)
        started = time.perf_counter()
        received = fetch(f"{base}{path}")
        seconds = time.perf_counter() - started
        assert received == megabytes * MEGABYTE, f"{received} bytes instead of {megabytes * MEGABYTE}"
        return seconds, memory(process.pid) - before
    finally:
        process.terminate()
        process.wait(PATIENCE)


def address(process: subprocess.Popen[bytes], log: Path) -> str:
    """Return the address that a server tells in its log."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline and process.poll() is None:
        if found := re.search(r"http://127\.0\.0\.1:\d+", log.read_text()):
            return found[0]
        time.sleep(0.05)  # between two looks at the log of another process
    raise SystemExit(f"The server is not ready:\n{log.read_text()}")


def fetch(url: str, method: str = "GET") -> int:
    """Read an answer and throw it away; return how many bytes there were."""
    received = 0
    buffer = bytearray(MEGABYTE)
    with urllib.request.urlopen(urllib.request.Request(url, method=method), timeout=600) as response:
        while count := response.readinto(buffer):
            received += count
    return received


def memory(pid: int) -> float:
    """Return the most that a process, or a child of it, has held so far, in megabytes."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    peaks = [re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{each}/status").read_text()) for each in (pid, *children)]
    return max(int(peak[1]) / 1024 for peak in peaks if peak)


if __name__ == "__main__":
    main(int(sys.argv[1]))
