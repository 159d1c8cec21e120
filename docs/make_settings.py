"""Write docs/settings.md from the settings themselves, so that the two cannot drift apart.

python docs/make_settings.py [FILE]           writes it
python docs/make_settings.py --check [FILE]   only checks that it is up to date
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import made_page

from geodes_tasks.settings.config import Config

if TYPE_CHECKING:
    from collections.abc import Iterator

    from geodes_tasks.settings.fields import Field

PAGE = Path(__file__).with_name("settings.md")
OPENING = """\
# Settings

<!-- Made by `python docs/make_settings.py`. Change geodes_tasks/settings, not this page. -->

Weakest first: the defaults below, `config.toml` in the user's configuration folder
(`~/.config/geodes-tasks` on Linux), `pygeodes-config.json` in the current folder, the environment,
a file named with `--config` or `Config.from_file`, the options of the command line and keywords. An
empty variable counts as not set. `geodes-tasks config show` prints each value and its origin.

`config.toml` has the lower-case names of the settings, without `GEODES_TASKS_` (the first ones as
below): `api_key = "..."`, `quota = "50/hour"`, `allowed_hosts = ["mirror.example"]`.
`pygeodes-config.json` is that of pygeodes; it may have these names too. No file is ever written.

Accounts other than that of `GEODES_TASKS_ACCOUNT` have keys of their own: the key of an account
`lab` is in `GEODES_API_KEY_LAB`, or in the file that `GEODES_API_KEY_LAB_FILE` names. Only their
owner should be able to read files with keys (`chmod 600`); workers and `doctor` warn of others.
"""
SECRET = "not set; secret"  # noqa: S105 - a word in a table
NOTHING = "not set"


def page() -> str:
    """Return the whole page."""
    table = "\n".join(["| variable | default | what it is |", "|---|---|---|", *_rows()])
    return f"{OPENING}\n{table}\n"


def _rows() -> Iterator[str]:
    for name, info in Config.fields.items():
        variables = " or ".join(f"`{variable}`" for variable in names(name))
        yield f"| {variables} | {_cell(info)} | {info.description} |"


def names(field: str) -> list[str]:
    """Return the environment variables that set a field, the strongest first."""
    return list(Config.fields[field].variables)


def _cell(info: Field[Any]) -> str:
    if callable(info.default):
        return "the platform's state folder"
    if info.default in (None, (), ""):
        return SECRET if info.is_secret else NOTHING
    return f"`{info.default:g}`" if isinstance(info.default, float) else f"`{info.default}`"


if __name__ == "__main__":
    sys.exit(made_page.main(lambda target: {target: page()}, PAGE, sys.argv[1:]))
