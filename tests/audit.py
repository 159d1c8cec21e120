"""Known vulnerabilities among the pins: ``python -m tests.audit``, which ``make audit`` runs.

pip-audit asks an index for them. Behind a mirror without that data it says "no known
vulnerabilities", having looked at none; here that is said for what it is, and is a failure.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

PINS = Path(__file__).parents[1] / "constraints.txt"
FOUND, NOT_AUDITED = 1, 3
"""Exit codes, beside 0: something is vulnerable; the data could not be had for all of them."""


def main() -> int:
    """Audit the pins."""
    command = [sys.executable, "-m", "pip_audit", "--requirement", str(PINS)]
    command += ["--no-deps", "--disable-pip", "--format", "json", "--progress-spinner", "off"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    try:
        packages: list[dict[str, Any]] = json.loads(done.stdout)["dependencies"]
    except (ValueError, KeyError):
        print("not audited: pip-audit could not ask for the data")
        print((done.stderr.strip() or "it said nothing").splitlines()[-1])
        return NOT_AUDITED
    lines, code = verdict(packages)
    print("\n".join(lines))
    return code


def verdict(packages: list[dict[str, Any]]) -> tuple[list[str], int]:
    """Say what pip-audit found, and how that counts."""
    bad = [one for one in packages if one.get("vulns")]
    skipped = [one["name"] for one in packages if "skip_reason" in one]
    lines = [
        f"{one['name']} {one['version']}: {flaw['id']}, "
        f"mended in {', '.join(flaw['fix_versions']) or 'no version yet'}"
        for one in bad
        for flaw in one["vulns"]
    ]
    looked_at = len(packages) - len(skipped)
    lines.append(f"{looked_at} of {len(packages)} packages audited, {len(bad)} vulnerable")
    if skipped:
        lines.append("not audited, the index here has no such data: " + ", ".join(skipped[:5]))
        lines[-1] += f" and {len(skipped) - 5} more" if len(skipped) > 5 else ""
    return lines, FOUND if bad else NOT_AUDITED if skipped else 0


if __name__ == "__main__":
    sys.exit(main())
