"""The commands as typer runs them: loaded when used, with one form of every error."""

from __future__ import annotations

import atexit
import gc
import inspect
import logging
import os
import re
import shlex
import signal
from functools import cached_property, partial
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import typer.completion
from typer.core import TyperGroup

from geodes_tasks.cli.command_table import (
    COMMANDS,
    COMPLETE_VARIABLE,
    INTERRUPTED,
    UNCLASSIFIED,
    USAGE,
    help_text,
)
from geodes_tasks.cli.output import stderr, write_data, write_error, write_line
from geodes_tasks.errors import (
    AccountError,
    ConfigError,
    DeploymentError,
    GeodesTasksError,
    NoItemsError,
    SourceError,
    UnknownNameError,
    write_for_shell,
)
from geodes_tasks.model.version import __version__
from geodes_tasks.monitoring.printable_log import escape_codes

NOTHING, ACCOUNT = 4, 7
"""Exit codes of errors that end a command."""
MODULES = {name: module for group in COMMANDS.values() for name, (module, _) in group.items()}
NUMBER = re.compile(r"[+-]?[\d.]+(?:[eE][+-]?\d+)?")
HELP_OPTIONS: dict[str, Any] = {"help_option_names": ["-h", "--help"]}
OF_CELERY = {"worker", "flower"}
"""Commands that pass all other options on."""
OWN = re.compile(r"-v+|--verbose|-h|--help")
PLAIN = {str: str, Path: Path, list[str]: list}
"""Types of parameters of which every text is a value, and what makes one of it."""

Verbose = Annotated[
    int,
    typer.Option(
        "--verbose", "-v", count=True, show_default=False, help="Log more; -vv logs everything."
    ),
]


class CommandGroup(TyperGroup):
    """The commands; the module of one is imported when it runs or its own help is shown."""

    def __init__(self, **settings: Any) -> None:
        """Take typer's settings."""
        super().__init__(**settings)
        parse_without_pydantic(self)

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        """Return the command that the first argument names, with the arguments that follow."""
        if args[0] == "watch-downloads":
            args = ["watch", *args[1:]]  # its name in pygeodes
        if "" in args and args[0] not in OF_CELERY:
            at = shlex.join(args[: args.index("")])
            raise typer.BadParameter(f"the argument after `{at}` is empty, as an unset variable is")
        args = with_one_box(args)
        if args[0] in OF_CELERY:
            # The value of another option may be attached to it: -Pthreads has no option -h.
            own = [word for word in args[1:] if OWN.fullmatch(word)]
            args = [args[0], *own, "--", *(word for word in args[1:] if word not in own)]
        name, known, rest = super().resolve_command(ctx, args)
        command = loaded(name) if name and known else None
        gc.enable()  # disabled while the libraries are loaded
        return name, command, rest

    def format_help(self, ctx: Any, formatter: Any) -> None:  # noqa: ARG002 - typer's signature
        """Write the help of the whole command line."""
        formatter.write(help_text() + "\n")


def with_one_box(args: list[str]) -> list[str]:
    """Return the arguments with the four numbers of ``--bbox 1 43 2 44`` as one.

    pygeodes, eodag and pystac-client take them like this.
    """
    at = args.index("--bbox") + 1 if "--bbox" in args else len(args)
    numbers = args[at : at + 4]
    if len(numbers) == 4 and all(map(NUMBER.fullmatch, numbers)):
        return [*args[:at], ",".join(numbers), *args[at + 4 :]]
    return args


def loaded(name: str) -> Any:
    """Return a command with its options; its module is imported now.

    The function of its name is the command; the last part of the docstring has examples.
    """
    one = typer.Typer(add_completion=False, context_settings=HELP_OPTIONS)
    module = import_module(f"geodes_tasks.cli.{MODULES[name]}")
    function = getattr(module, name.replace("-", "_"))
    text, word, examples = inspect.cleandoc(function.__doc__).partition("\n\nExample")
    settings = {"allow_extra_args": True} if name in OF_CELERY else None
    epilog = " ".join(f"{word}{examples}".split())
    one.command(name, help=text, epilog=epilog, context_settings=settings)(function)
    command: Any = typer.main.get_command(one)
    # An option of every command too: users add it after what they have typed already.
    command.params.append(_verbose_option())
    parse_without_pydantic(command)
    return command


def parse_without_pydantic(command: Any) -> None:
    """Let typer parse only the arguments that need more than their text.

    Its parser of each parameter, given or not, stands on pydantic: 0.1 s of a command's 0.4
    (``typer/_coercion.py``, 0.29).
    """
    # With the option of the help, which is made when first asked for.
    for parameter in command.get_params(typer.Context(command, **HELP_OPTIONS)):
        kind = getattr(parameter, "type_descriptor", None)
        # An older typer has no such parser.
        if kind is not None:
            make = None if kind.parameter_info.parser else PLAIN.get(kind.annotation)
            parameter.process_value = partial(_value_of, parameter, parameter.process_value, make)


def _value_of(parameter: Any, typers: Any, make: Any, context: Any, value: Any) -> Any:
    """Return the value of a parameter; ``typers`` parses what ``make`` cannot."""
    if value and make and not parameter.callback:
        return make(value)
    # The text of a choice equals its StrEnum, and is none.
    is_default = value == parameter.default and type(value) is type(parameter.default)
    if parameter.required or not is_default:
        return typers(context, value)
    if value is None and (parameter.multiple or parameter.nargs == -1):
        return ()  # click's value of a parameter that takes many and has none
    return parameter.callback(context, parameter, value) if parameter.callback else value


def _verbose_option() -> Any:
    one = typer.Typer()

    @one.command()
    def command(verbose: Verbose = 0) -> None:
        """Take the option."""

    option: Any = typer.main.get_command(one).params[0]
    option.expose_value = False
    option.callback = lambda _context, _option, count: set_up_logging(count)
    return option


app = typer.Typer(
    name="geodes-tasks",
    cls=CommandGroup,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings=HELP_OPTIONS,
)
# Names only: a shell that completes `geodes-tasks re` loads no command.
for _group in COMMANDS.values():
    for _name, (_, _help) in _group.items():
        app.command(_name, help=_help)(lambda: None)


@app.callback()
def options(
    verbose: Verbose = 0, version: Annotated[bool, typer.Option("--version", "-V")] = False
) -> None:
    """Take the options before the command."""
    if version:
        write_data(f"geodes-tasks {__version__}")
        raise typer.Exit
    set_up_logging(verbose)


class TerminalHandler(logging.Handler):
    """Write records by rich's handler, which is loaded with the first one: it takes 70 ms."""

    @cached_property
    def _rich(self) -> logging.Handler:
        from rich.logging import RichHandler

        return RichHandler(console=stderr, show_path=False)

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record above the progress, if there is one."""
        self._rich.emit(record)


def set_up_logging(verbose: int) -> None:
    """Log to standard error: warnings, with 1 also what happens, with 2 everything."""
    level = (logging.WARNING, logging.INFO, logging.DEBUG)[min(verbose, 2)]
    handler = TerminalHandler() if stderr.is_terminal else logging.StreamHandler()
    logging.basicConfig(level=level, format="%(message)s", handlers=[handler])
    # Called once for the options before the command and once for those after it.
    root = logging.getLogger()
    root.setLevel(min(level, root.level))
    escape_codes(root)


def _interrupt_on_hangup() -> None:
    """Treat a closed terminal (SIGHUP) as Ctrl-C, unless the command runs under nohup."""
    # Looked up now: after the hangup nothing is a terminal any more (tty_ioctl(4), EIO).
    terminals = [number for number in (0, 1, 2) if os.isatty(number)]

    def interrupt(*_: object) -> None:
        # The shell sends it too: a second one must not break off the clean-up.
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        nowhere = os.open(os.devnull, os.O_RDWR)
        for number in terminals:
            os.dup2(nowhere, number)
        raise KeyboardInterrupt

    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        signal.signal(signal.SIGHUP, interrupt)


def _interrupt_on_termination() -> None:
    """Treat SIGTERM as Ctrl-C, so that the terminal is left as it was; then end by it."""

    def end() -> None:
        # The caller sees by which signal it ended.
        for number in ending:
            os.kill(os.getpid(), number)

    def interrupt(number: int, _: object) -> None:
        # A second one ends at once.
        signal.signal(number, signal.SIG_DFL)
        ending.append(number)
        raise KeyboardInterrupt

    ending = list[int]()
    # Before all libraries that clean up at the end: what is registered first is called last.
    atexit.register(end)
    signal.signal(signal.SIGTERM, interrupt)


def run() -> int:
    """Run the command of the arguments and return its exit code.

    Every expected error is one clear line, never a traceback.
    """
    write_for_shell()
    _interrupt_on_hangup()
    _interrupt_on_termination()
    if COMPLETE_VARIABLE in os.environ:
        typer.completion.completion_init()  # type: ignore[attr-defined] # re-exported
    # typer exports a single one of its usage errors; the base is the class of all of them.
    usage_error: Any = typer.BadParameter.__base__
    # In its standalone mode typer prints errors in boxes of its own, and exits by itself.
    try:
        return app(prog_name="geodes-tasks", standalone_mode=False) or 0
    except usage_error as error:
        path = error.ctx.command_path if error.ctx else "geodes-tasks"
        text = " ".join(error.format_message().split()).replace("Value error, ", "").rstrip(".?")
        write_line(f"error: {text}. Type `{path} --help` for arguments and options.")
        return USAGE
    except typer.Abort:
        write_line("nothing was changed")
        return UNCLASSIFIED
    except KeyboardInterrupt:
        return INTERRUPTED
    except GeodesTasksError as error:
        write_error(error)
        return exit_code_of(error)


def exit_code_of(error: GeodesTasksError) -> int:
    """Return the exit code of a command that an error ended."""
    if isinstance(error, NoItemsError):
        return NOTHING
    if isinstance(error, AccountError):
        return ACCOUNT
    usage = (ConfigError, DeploymentError, SourceError, UnknownNameError)
    return USAGE if isinstance(error, usage) else UNCLASSIFIED
