"""The commands as a whole: their table, their help, one form of errors, and how quick they are."""

from __future__ import annotations

import logging
import os
import re
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from geodes_tasks.cli import command_group, options, output, worker_flower
from geodes_tasks.cli.command_group import (
    MODULES,
    exit_code_of,
    loaded,
    with_one_box,
)
from geodes_tasks.cli.command_table import COMMANDS, completed_commands, help_text
from geodes_tasks.errors import (
    ConfigError,
    KeyMissingError,
    LedgerUnavailableError,
    NoItemsError,
    UnknownBatchError,
)
from geodes_tasks.monitoring.reports import Format

QUICK = 1.5
"""Time of `--help` and `--version` as a share of the time to import typer and rich, at most."""


def run(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run the command line to its end."""
    return subprocess.run(
        [sys.executable, "-m", "geodes_tasks", *arguments], capture_output=True, text=True,
        env=os.environ | variables, timeout=60, check=False,
    )  # fmt: skip


@pytest.mark.parametrize("name", MODULES)
def test_each_command_is_in_its_module(name: str) -> None:
    """The table, which loads nothing, agrees with the commands; each takes `-v`."""
    command = loaded(name)
    options = {word for one in command.params for word in one.opts}

    assert command.help
    assert "-v" in options


def test_options_of_celery_arrive_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also with the value attached: no letter of it is an option of ours."""
    seen: list[list[str]] = []
    monkeypatch.setattr(worker_flower, "_execute_celery", lambda _, words: seen.append(words))
    words = ["-Pthreads", "-nserver@%h", "-c4", "--loglevel", "INFO"]

    command_group.app(["worker", "-v", *words], standalone_mode=False)

    assert seen == [words]


def test_help_lists_every_command() -> None:
    """A new user finds commands by group, first steps, the key and the exit codes."""
    text = help_text()

    assert [group for group in COMMANDS if f"\n{group}:\n" not in text] == []
    assert [name for name in MODULES if f"\n  {name} " not in text] == []
    assert "GEODES_API_KEY" in text
    assert "Exit codes: 0 done" in text


@pytest.mark.parametrize("name", ["download", "enqueue", "report", "forget", "pause", "verify"])
def test_the_help_of_a_command_has_an_example(name: str) -> None:
    """Help names an example that can be typed, and brackets no argument twice."""
    said = run(name, "--help", COLUMNS="100")

    assert said.returncode == 0
    assert f"geodes-tasks {name}" in said.stdout.split("Example")[1]
    assert "[[" not in said.stdout


def test_help_of_download_names_settings_and_exit_codes() -> None:
    """Defaults, variables of the environment and exit codes are in the help."""
    text = " ".join(run("download", "--help", COLUMNS="200").stdout.split())

    for words in ("GEODES_TASKS_DOWNLOAD_DIR", "GEODES_TASKS_MAX_CONCURRENT", "130 interrupted"):
        assert words in text


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (("download", "--colection", "X"), "No such option: --colection"),
        (("downlod",), "No such command 'downlod'. Did you mean 'download'"),
        (("report", "--format", "pdf"), "Invalid value for '--format' / '-f'"),
        (("limit", "default"), "Missing argument 'N|auto'"),
        (("limit", "default", "many"), "N: 'many' is neither a number nor auto"),
        (("download",), "SOURCE: give files, or a search"),
        (("download", ""), "Invalid value: the argument after `download` is empty"),
        (
            ("download", "x.json", "-o", ""),
            "Invalid value: the argument after `download x.json -o`",
        ),
        (
            ("download", "https://h/x.json"),
            "https://h/x.json: is an address, and a SOURCE is a file",
        ),
        (
            ("download", "x.json", "--max-wait", "soon"),
            "Invalid value for '--max-wait': 'soon' is no",
        ),
        (
            ("download", "x.json", "--limit-rate", "fast"),
            "Invalid value for '--limit-rate': 'fast' is no",
        ),
        (("download", "x.json", "--config", "no.json"), "no.json: cannot be read: No such file"),
        (("forget", "--all", "--older-than", "soon"), "--older-than: 'soon' is no duration"),
        (("config",), "Missing argument 'show'"),
        (("enqueue", "items.json"), "GEODES_TASKS_REDIS_URL: `enqueue` needs the Redis"),
        (("worker",), "GEODES_TASKS_REDIS_URL: `worker` needs the Redis"),
        (("watch-downloads",), "GEODES_TASKS_REDIS_URL: is not set, and nothing was downloaded"),
    ],
)
def test_errors_of_usage_look_alike(arguments: tuple[str, ...], problem: str) -> None:
    """Typer's errors and ours are one line with what to do, and exit code 2."""
    said = run(*arguments)

    assert said.returncode == 2
    assert said.stdout == ""
    assert said.stderr.startswith(f"error: {problem}")
    assert said.stderr.count("\n") == 1
    assert "doctor" not in said.stderr or "no.json" in said.stderr


def test_a_box_is_one_argument_or_four() -> None:
    """The four numbers of pygeodes and eodag are the box; other arguments stay as they are."""
    box = ["search", "--bbox", "-10", "40.5", "5", "5e1", "--count"]

    assert with_one_box(box) == ["search", "--bbox", "-10,40.5,5,5e1", "--count"]
    for others in (["search", "--bbox", "1,2,3,4", "-c", "A"], ["search", "--bbox"], ["status"]):
        assert with_one_box(others) == others


def test_ctrl_c_at_the_start_is_no_traceback() -> None:
    """The libraries take a second to load: Ctrl-C meanwhile ends the command with 130, silently."""
    code = """
        import os, signal, sys
        from geodes_tasks.cli import main

        class Finder:
            def find_spec(self, name, *_):
                if name == "typer":
                    os.kill(os.getpid(), signal.SIGINT)

        sys.meta_path.insert(0, Finder())
        sys.argv = ["geodes-tasks", "status"]
        main()
    """
    said = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True,
        timeout=60, check=False,
    )  # fmt: skip

    assert (said.returncode, said.stdout, said.stderr) == (130, "", "")


@pytest.mark.parametrize("words", ["--version", "config show --json", "config show"])
@pytest.mark.parametrize(
    ("output", "code", "problem"),
    [(">&-", 0, ""), (">/dev/full", 1, "error: .*: No space left on device\n"), ("| :", 1, "")],
)
def test_standard_output_that_takes_nothing(
    words: str, output: str, code: int, problem: str
) -> None:
    """Closed, full or left by its reader: one line at most, and no traceback."""
    line = f"set -o pipefail; {sys.executable} -m geodes_tasks {words} {output}"
    done = subprocess.run(
        ["bash", "-c", line], capture_output=True, text=True, timeout=60, check=False
    )

    assert re.fullmatch(problem, done.stderr), done.stderr
    assert done.returncode == code


@pytest.mark.parametrize("words", ["batches", "status -o ../out", "download items.json -o out"])
@pytest.mark.parametrize("folder", [{}, {"GEODES_TASKS_DOWNLOAD_DIR": "/"}])
def test_a_current_folder_that_was_removed(
    words: str, folder: dict[str, str], tmp_path: Path
) -> None:
    """One line tells it where a relative folder is meant."""
    (tmp_path / "gone").mkdir()
    line = f"cd gone; rmdir ../gone; exec {sys.executable} -m geodes_tasks {words}"
    done = subprocess.run(
        ["bash", "-c", line], env=os.environ | folder | {"PYTHONSAFEPATH": "1"}, cwd=tmp_path,
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip

    assert done.stderr.count("\n") == 1, done.stderr
    assert (done.returncode == 2) == ("error: " in done.stderr)


def test_without_arguments_the_help_is_shown() -> None:
    """The bare name of the program is no error message."""
    said = run()

    assert (said.returncode, said.stdout) == (2, run("--help").stdout)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_of_a_shell(shell: str) -> None:
    """The script is for the program's own name."""
    said = run("completion", shell)

    assert said.returncode == 0
    assert "geodes-tasks" in said.stdout
    assert "_GEODES_TASKS_COMPLETE" in said.stdout


def test_commands_and_formats_are_completed() -> None:
    """Bash asks the program itself, which needs no server for it."""
    complete = {"_GEODES_TASKS_COMPLETE": "complete_bash"}

    commands = run(**complete, COMP_WORDS="geodes-tasks\nre", COMP_CWORD="1").stdout.split()
    formats = run(**complete, COMP_WORDS="geodes-tasks report -f m", COMP_CWORD="3").stdout.split()

    assert commands == ["report", "retry", "resume"]
    assert sorted(formats) == ["markdown", "md5sums"]


def test_only_names_that_no_shell_obeys_are_completed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Other users of Redis name batches, and zsh runs a command in a completion at once."""
    names = [r"\$(touch x)", "`x`", "a b", "a;x", "--all", "~root", "a\nb", "été.2025:a/b@c"]
    monkeypatch.setattr(
        options, "batches", lambda: [SimpleNamespace(id=name) for name in [*names, "april"]]
    )

    assert options.complete_batch("") == ["été.2025:a/b@c", "april"]
    assert options.complete_batch("a") == ["april"]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
@pytest.mark.parametrize("word", ["re", "", "nope"])
def test_commands_are_completed_as_typer_does(shell: str, word: str) -> None:
    """The quick answer for the first word is that of typer, which answers for all others."""
    line = f"geodes-tasks {word}"
    variables = {
        "_GEODES_TASKS_COMPLETE": f"complete_{shell}", "_TYPER_COMPLETE_FISH_ACTION": "get-args",
    } | ({"COMP_WORDS": line, "COMP_CWORD": "1"} if shell == "bash" else {})  # fmt: skip
    if shell != "bash":
        variables["_TYPER_COMPLETE_ARGS"] = line
    quick = completed_commands(variables)
    code = "import typer.completion as c; from geodes_tasks.cli.command_group import app; "
    code += "c.completion_init(); app(prog_name='geodes-tasks')"

    slow = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False,
        env=os.environ | variables, timeout=60,
    ).stdout  # fmt: skip

    # typer cuts the descriptions.
    names = [re.findall(r"""(?m)(?:^|\(\()"?([a-z-]+)""", text or "") for text in (quick, slow)]
    assert names[0] == names[1] or word == "nope"
    assert len(names[0]) == {"re": 3, "": len(MODULES), "nope": 0}[word]


@pytest.mark.parametrize(
    "line",
    ["download items.json -o DIR -i data", "enqueue items.json --batch april", "status april -v"],
)
def test_common_options_are_parsed_without_pydantic(line: str) -> None:
    """Arguments that are text or a path reach the command, and no library is loaded for them."""
    words = line.split()
    code = f"""import gc, sys
from geodes_tasks.cli import command_group as c
group = c.typer.main.get_group(c.app)
context = group.make_context("geodes-tasks", {words!r})
_, command, rest = group.resolve_command(context, {words!r})
print("pydantic" in sys.modules, gc.isenabled(), command.make_context("", rest).params)"""

    answer = subprocess.run(
        [sys.executable, "-c", f"import gc; gc.disable(); {code}"],
        capture_output=True, text=True, check=True, timeout=60,
    ).stdout  # fmt: skip

    assert answer.startswith("False True {")
    expected = {
        "download": (
            "'output_dir': PosixPath('DIR')", "'source': ['items.json']", "'include': ['data']",
            "'exclude': (),", "'layout': '{title}'", "'from_': 'auto'", "'slots': None",
        ),
        "enqueue": ("'batch_name': 'april'", "'source': ['items.json']"),
        "status": ("'april'",),
    }  # fmt: skip
    assert [word for word in expected[words[0]] if word not in answer] == []


@pytest.mark.parametrize("words", [[], ["--format", "jsonl"], ["--format", "csv"]])
def test_a_choice_is_of_its_type_when_the_default_is_given_too(words: list[str]) -> None:
    """`--format jsonl`, which is the default, writes the same report as no option."""
    command = loaded("report")

    form = command.make_context("report", ["april", *words]).params["form"]

    assert isinstance(form, Format)
    assert form == (words or ["", "jsonl"])[1]


def test_exit_codes_of_errors() -> None:
    """Scripts tell usage, nothing to do, a missing key and the rest apart."""
    codes = {
        ConfigError("X", "bad"): 2,
        UnknownBatchError("april"): 2,
        NoItemsError("items.json", "is empty"): 4,
        KeyMissingError("https://x", "GEODES_API_KEY", "is not set"): 7,
        LedgerUnavailableError("redis://x", "away"): 1,
    }

    assert {type(error): exit_code_of(error) for error in codes} == {
        type(error): code for error, code in codes.items()
    }


@pytest.mark.parametrize("given", [(0, logging.WARNING), (1, logging.INFO), (2, logging.DEBUG)])
def test_verbosity(given: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    """One -v shows what happens, two show everything."""
    count, level = given
    root = logging.getLogger()
    monkeypatch.setattr(root, "level", logging.WARNING)

    command_group.set_up_logging(count)

    assert root.level == level


def test_version_help_and_completion_are_quick() -> None:
    """None loads a library: they cost no more than 1.5 times an import of typer and rich."""
    complete = {"_GEODES_TASKS_COMPLETE": "complete_bash", "COMP_WORDS": "geodes-tasks re"}

    def seconds(*arguments: str, **variables: str) -> float:
        times = []
        for _ in range(5):
            before = os.times()
            subprocess.run(
                [sys.executable, *arguments],
                capture_output=True,
                check=True,
                env=os.environ | variables,
            )
            after = os.times()
            times.append(after.children_user - before.children_user)
            time.sleep(0.01)
        # The best of five, and time of the processor: the machine may be busy.
        return min(times) + 0.01

    limit = QUICK * seconds("-c", "import typer, rich")

    assert seconds("-m", "geodes_tasks", "--version") <= limit
    assert seconds("-m", "geodes_tasks", "--help") <= limit
    assert seconds("-m", "geodes_tasks", **complete) <= limit


URN = "urn:b:100:id"
"""A name in which rich finds pictures (``:b:``, ``:100:``, ``:id:``)."""


def test_no_letter_of_a_name_becomes_a_picture(capsys: pytest.CaptureFixture[str]) -> None:
    """A URN is copied from a message as it is in the catalogue."""
    output.write_line(f"failed: {URN}")

    assert capsys.readouterr().err == f"failed: {URN}\n"


def test_no_line_of_a_log_passes_codes_on() -> None:
    """What a server says reaches the terminal without codes, with each command."""
    script = (
        "import logging; from geodes_tasks.cli import command_group as c; c.set_up_logging(1);"
        r"logging.getLogger('geodes_tasks.stac').warning('refused: %s', 'no\x1b]0;own\x07\x9b31m')"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True
    )

    assert done.stderr == "refused: no\\x1b]0;own\\x07\\x9b31m\n"


def test_a_reader_that_went_away_does_not_change_the_end_by_a_signal() -> None:
    """What is left to write is lost with it; the caller still sees the signal."""
    script = (
        "import contextlib, os, signal, sys; from geodes_tasks.cli import command_group as c;"
        "c._interrupt_on_termination(); print('x' * 10)\n"
        "with contextlib.suppress(KeyboardInterrupt):\n"
        "    sys.stdin.read()\n"
        "    os.kill(os.getpid(), signal.SIGTERM)\n"
        "    signal.pause()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=os.environ | {"PYTHONUNBUFFERED": ""},
    ) as process:
        for stream in (process.stdout, process.stdin):
            assert stream is not None
            stream.close()

        assert process.wait(30) == -signal.SIGTERM
        assert process.stderr is not None
        assert process.stderr.read() == b""
