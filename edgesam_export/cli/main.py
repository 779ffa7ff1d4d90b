"""The entry point: runs a command, and turns whatever a user can cause into one line and an exit code.

A command is a module of this folder that adds itself to the group of ``app.py``; there is no list of them.
"""

from __future__ import annotations

import sys

import click

from edgesam_export.cli.app import cli
from edgesam_export.cli.output import EXIT_INTERRUPTED, EXIT_OK, EXIT_USAGE, shown_warnings
from edgesam_export.cli.threads import sleep_when_busy
from edgesam_export.errors import EdgeSAMExportError
from edgesam_export.registry import import_submodules

__all__ = ["main"]

import_submodules("edgesam_export.cli")  # every module adds its command to the group


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit: every warning, and every error a user can cause, is one line on stderr."""
    arguments = sys.argv[1:] if arguments is None else arguments
    debug = "--debug" in arguments
    name = next((word for word in arguments if not word.startswith("-")), "")
    prefix = f"edgesam-export {name}".strip()
    sleep_when_busy()
    try:
        with shown_warnings():
            code = cli.main(args=arguments, standalone_mode=False)
            sys.stdout.flush()
    except click.exceptions.Exit as stop:
        code = stop.exit_code
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message())
        code = EXIT_USAGE
    except click.ClickException as error:
        code = fail(prefix, f"{error.format_message()} (see '{prefix} --help')", EXIT_USAGE)
    except (click.Abort, KeyboardInterrupt):
        code = fail(prefix, "interrupted; nothing half-written was left", EXIT_INTERRUPTED)
    except SystemExit:  # click's own answer to a reader that went away, and only to that: `models | head`
        code = EXIT_OK
    except BrokenPipeError:
        sys.stderr.close()
        code = EXIT_OK
    except EdgeSAMExportError as error:
        if debug:
            raise
        code = fail(prefix, str(error), error.exit_code)
    except Exception as error:
        if debug:
            raise
        line = " ".join(str(error).split()) or "no message"
        code = fail(prefix, f"unexpected {type(error).__name__}: {line}; run with --debug and report it", EXIT_USAGE)
    sys.exit(code or EXIT_OK)


def fail(prefix: str, message: str, code: int) -> int:
    """Print one error line; return the exit code."""
    click.echo(f"{prefix}: {' '.join(message.split())}", err=True)
    return code
