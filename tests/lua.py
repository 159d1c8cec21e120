"""Check the Lua scripts with luacheck, each as Redis gets it: ``python -m tests.lua``."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from geodes_tasks.ledger.script_loader import script_names, script_text

CONFIG = Path(__file__).parents[1] / ".luacheckrc"


def check(folder: Path) -> subprocess.CompletedProcess[str]:
    """Write all scripts into a folder and run luacheck on them.

    A function that a script is sent with and does not use is unused there, which is a warning.
    """
    for name in script_names():
        (folder / f"{name}.lua").write_text(script_text(name))
    return subprocess.run(
        ["luacheck", "--config", str(CONFIG), "--no-color", "--quiet", "."],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )


def main() -> int:
    """Check, and return the exit code."""
    if shutil.which("luacheck") is None:
        print("skipped: luacheck is not installed here (Debian: lua-check)")
        return 0
    with tempfile.TemporaryDirectory() as folder:
        done = check(Path(folder))
    print(done.stdout + done.stderr, end="")
    return done.returncode


if __name__ == "__main__":
    sys.exit(main())
