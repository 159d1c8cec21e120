"""Write docs/settings.md from the settings themselves, so that the two cannot drift apart.

python docs/make_settings.py [FILE]           writes it
python docs/make_settings.py --check [FILE]   only checks that it is up to date
"""

from __future__ import annotations

import ast
import inspect
import sys
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import made_page

from geodes_tasks.settings.config import Config
from geodes_tasks.settings.secret import Secret, secret_word

if TYPE_CHECKING:
    from collections.abc import Iterator

    from geodes_tasks.settings.fields import Field

PAGE = Path(__file__).with_name("settings.md")
OPENING = """\
# Settings

<!-- Made by `python docs/make_settings.py`. Change geodes_tasks/settings, not this page. -->

All settings, what each is without a value, and where you can give one. `geodes-tasks config show`
prints each value that is in use and where it comes from.

A value is taken from the last of these that has it: the defaults below, `config.toml` in your
configuration folder (`~/.config/geodes-tasks` on Linux), `pygeodes-config.json` in the current
folder, the environment, a file named with `--config` or `Config.from_file`, the options of the
command line and keywords. An empty variable counts as not set.

`config.toml` has the lower-case names of the settings, without `GEODES_TASKS_` (the first ones as
below): `api_key = "..."`, `quota = "50/hour"`, `allowed_hosts = ["mirror.example"]`.
The file of the current folder, which may be a stranger's, has pygeodes' settings only; one that
is named may have all. No file is ever written.

A second account `lab` has its key in `GEODES_API_KEY_LAB`, or in the file that
`GEODES_API_KEY_LAB_FILE` names: [Several accounts](quota.md#several-accounts).
"""
SECRET = "not set; secret"  # noqa: S105 - a word in a table
NOTHING = "not set"


def page() -> str:
    """Return the whole page."""
    table = "\n".join(["| variable | default | what it is |", "|---|---|---|", *_rows()])
    return f"{OPENING}\n{table}\n"


def _rows() -> Iterator[str]:
    texts = descriptions()
    for name, info in Config.fields.items():
        variables = " or ".join(f"`{variable}`" for variable in names(name))
        # No command uses the default address: without one it works on this machine, or refuses.
        default = NOTHING if name == "redis_url" else _cell(info)
        yield f"| {variables} | {default} | {texts[name]} |"


def descriptions() -> dict[str, str]:
    """Return the sentence below each setting in the source of the configuration."""
    tree = ast.parse(inspect.getsource(Config))
    config = next(one for one in ast.walk(tree) if isinstance(one, ast.ClassDef))
    return {
        ast.unparse(field.targets[0]): " ".join(str(below.value.value).split())
        for field, below in pairwise(config.body)
        if isinstance(field, ast.Assign)
        and isinstance(below, ast.Expr)
        and isinstance(below.value, ast.Constant)
    }


def names(field: str) -> list[str]:
    """Return the environment variables that set a field, the strongest first."""
    return list(Config.fields[field].variables)


def _cell(info: Field[Any]) -> str:
    if callable(info.default):
        return "the platform's state folder"
    if info.default in (None, (), ""):
        return SECRET if info.parse in (secret_word, Secret.of) else NOTHING
    return f"`{info.default:g}`" if isinstance(info.default, float) else f"`{info.default}`"


if __name__ == "__main__":
    sys.exit(made_page.main(lambda target: {target: page()}, PAGE, sys.argv[1:]))
