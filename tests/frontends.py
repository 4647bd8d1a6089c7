"""The frontends of the documentation, put into a project's folders and built as it says."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

from documents import ROOT, code_blocks, put

MODULES = Path(__file__).parent / "node_modules"

STRICT = {
    "compilerOptions": {
        "strict": True,
        "exactOptionalPropertyTypes": True,
        "noUncheckedIndexedAccess": True,
        "noUnusedLocals": True,
        "noEmit": True,
        "target": "es2022",
        "lib": ["es2022", "dom", "dom.iterable"],
        "types": [],
        "module": "esnext",
        "moduleResolution": "bundler",
        "jsx": "react-jsx",
        "skipLibCheck": True,
    },
    "include": ["src"],
}


def generated_types(folder: Path) -> str:
    """Return the types of the API in TypeScript, from its description."""
    Frontend(folder).run("openapi-typescript", str(ROOT / "docs" / "openapi.yaml"), "--output", "api.ts")
    return (folder / "api.ts").read_text(encoding="utf-8")


class Frontend:
    """A folder with what some pages of the documentation put there, by the captions of their code."""

    def __init__(self, folder: Path, *pages: str) -> None:
        self.folder = folder
        for page in pages:
            for block in code_blocks(ROOT / "docs" / f"{page}.rst"):
                if "/" in block.caption or "." in block.caption:
                    put(block, folder)

    def write(self, name: str, text: str) -> None:
        """Write a file."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")

    def run(self, program: str, *arguments: str) -> str:
        """Run a program of the installed packages and return what it prints; what it complains about is an error."""
        command = [str(MODULES / ".bin" / program), *arguments]
        done = subprocess.run(command, cwd=self.folder, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{program} says: {done.stdout}{done.stderr}"
        return done.stdout

    def check(self, api: str, compiler: str = "tsc") -> None:
        """Check the types of all code, with those of the API."""
        (self.folder / "node_modules").symlink_to(MODULES)
        self.write("package.json", json.dumps({"type": "module"}))
        self.write("tsconfig.json", json.dumps(STRICT))
        self.write("src/api.ts", api)
        self.run(compiler, "--project", ".")

    def build(self, *options: str) -> None:
        """Bundle it."""
        self.run("vite", "build", "--logLevel", "warn", *options)
