"""The entry point: runs a command, and turns whatever a user can cause into one line and an exit code.

A command is a module of this folder that adds itself to the group of ``app.py``; there is no list of them.
"""

from __future__ import annotations

import sys

import click

from edgesam_export.cli.app import cli
from edgesam_export.cli.output import EXIT_OK, EXIT_USAGE, one_line, shown_warnings
from edgesam_export.cli.streams import Ended, ended_by_signals, standard_streams
from edgesam_export.cli.threads import sleep_when_busy
from edgesam_export.errors import EdgeSAMExportError
from edgesam_export.registry import import_submodules

__all__ = ["main"]

import_submodules("edgesam_export.cli")  # every module adds its command to the group


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit: every warning, and every error a user can cause, is one line on stderr."""
    sleep_when_busy()
    with standard_streams(), ended_by_signals():
        code = exit_code_of(sys.argv[1:] if arguments is None else arguments)
    sys.exit(code)


def exit_code_of(arguments: list[str]) -> int:
    """Return the exit code of a command after it has run; with ``--debug`` errors are raised."""
    debug = "--debug" in arguments
    name = next((word for word in arguments if not word.startswith("-")), "")
    prefix = f"edgesam-export {name}".strip()
    try:
        with shown_warnings():
            return cli.main(args=arguments, prog_name="edgesam-export", standalone_mode=False) or EXIT_OK
    except click.exceptions.Exit as stop:
        return stop.exit_code
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message())
        return EXIT_USAGE
    except click.ClickException as error:
        return fail(prefix, f"{error.format_message()} (see '{prefix} --help')", EXIT_USAGE)
    except (click.Abort, KeyboardInterrupt) as error:
        return interrupted(prefix, error)
    except EdgeSAMExportError as error:
        if debug:
            raise
        return fail(prefix, str(error), error.exit_code)
    except SystemExit:  # click's own answer to a broken pipe; our streams have none
        return fail(prefix, "another program that it talks to went away; run again, then report it", EXIT_USAGE)
    except Exception as error:
        if debug:
            raise
        return unexpected(prefix, error)


def interrupted(prefix: str, error: BaseException) -> int:
    """Print how a command was interrupted; return the exit code, 128 and the signal's number."""
    cause = error.__cause__ or error
    if isinstance(cause, EOFError):  # click takes it for Ctrl-D, which no command asks for: a file ended early
        return unexpected(prefix, cause)
    how, number = (f"ended by {cause.name}", cause.number) if isinstance(cause, Ended) else ("interrupted", 2)
    return fail(prefix, f"{how}; nothing half-written was left", 128 + number)


def unexpected(prefix: str, error: BaseException) -> int:
    """Print an error that nobody thought of; return the exit code."""
    line = " ".join(str(error).split()) or "no message"
    return fail(prefix, f"unexpected {type(error).__name__}: {line}; run with --debug and report it", EXIT_USAGE)


def fail(prefix: str, message: str, code: int) -> int:
    """Print one error line; return the exit code."""
    click.echo(one_line(f"{prefix}: {message}"), err=True)
    return code
