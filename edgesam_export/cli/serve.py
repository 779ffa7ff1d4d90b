"""The command ``serve``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgesam_export.cli.app import cli
from edgesam_export.cli.loading import load
from edgesam_export.cli.options import common, weights
from edgesam_export.cli.output import emit, note, steps
from edgesam_export.cli.paths import UserPath
from edgesam_export.errors import UsageError

if TYPE_CHECKING:
    from edgesam_export.serve.backends import Backend

HOST, PORT = "127.0.0.1", 8642


@cli.command()
@click.argument("artifacts", nargs=-1, type=UserPath())
@click.option("--host", default=HOST, show_default=True, help="Address to listen on; 0.0.0.0: every one can use it.")
@click.option("--port", type=click.IntRange(0, 65535), default=PORT, show_default=True, help="0 takes a free one.")
@click.option("--open", "opens", is_flag=True, help="Open the page in your browser.")
@click.option("--model", help="Also this model in PyTorch; without files it alone.")
@weights
@common()
def serve(artifacts: tuple[Path, ...], host: str, port: int, as_json: bool, quiet: bool, **options: Any) -> None:
    """Show a page to click on, answered by exported files."""
    from edgesam_export.serve.security import is_loopback
    from edgesam_export.serve.server import bound_socket, require_extra, url_of
    from edgesam_export.serve.server import serve as answer

    require_extra()
    with bound_socket(host, port) as listener:
        with steps(quiet, "looking at the files"):
            backends = chosen_backends(artifacts, options, quiet)
        url = url_of(listener)
        if not is_loopback(host):
            click.echo(
                f"warning: --host {host}: everyone who reaches this machine can use the page and its processor;"
                " there is no password and no encryption",
                err=True,
            )
        if as_json:
            emit({"url": url, "backends": [backend.id for backend in backends]})
        else:
            click.echo(url)
            note(quiet, f"{', '.join(backend.id for backend in backends)}; Ctrl-C ends it")
        if options["opens"]:
            click.launch(url)
        answer(listener, host, backends, lambda line: click.echo(f"edgesam-export serve: {line}", err=True))
    note(quiet, "edgesam-export serve: ended")


def chosen_backends(artifacts: tuple[Path, ...], options: dict[str, Any], quiet: bool) -> list[Backend]:
    """Return the backends that the options name.

    Raises: UsageError when they name none, or weights without anything to use them for.
    """
    from edgesam_export.serve.backends import backend_of_model, find_backends

    if options["model"] is None and not artifacts:
        raise UsageError("nothing to serve; give the folder of exported files, or --model NAME for PyTorch")
    if options["model"] is None:
        for name in ("random_weights", "upsample"):
            if options[name] is not None:
                raise UsageError(f"--{name.replace('_', '-')} is for --model; exported files have their weights")
        return find_backends(artifacts, checkpoint=options["checkpoint"])
    backend = backend_of_model(load(options["model"], options, quiet))
    return [*(other for other in find_backends(artifacts) if other.id != backend.id), backend]
