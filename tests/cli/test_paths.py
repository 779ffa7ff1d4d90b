"""Paths of the command line: what no shell has made of them."""

from __future__ import annotations

from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from edgesam_export.cli.app import cli
from edgesam_export.cli.main import main
from edgesam_export.cli.paths import UserPath


@click.command()
@click.option("--output", type=UserPath(), default=Path("build"))
@click.option("--data", type=UserPath(str))
def shown(output, data):
    click.echo(repr((output, data)))


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ([], "(PosixPath('build'), None)"),
        (["--output=~/models", "--data=~/d.json"], "(PosixPath('/home/me/models'), '/home/me/d.json')"),
        (["--output", "a~/b", "--data", "scenes:1:2"], "(PosixPath('a~/b'), 'scenes:1:2')"),
    ],
)
def test_a_tilde_behind_an_equals_sign_is_the_home_folder(monkeypatch, given, expected):
    monkeypatch.setenv("HOME", "/home/me")
    assert CliRunner().invoke(shown, given).output.strip() == expected


def test_an_empty_path_is_refused():
    found = CliRunner().invoke(shown, ["--output="])
    assert found.exit_code == 2 and "the path is empty; is a variable not set?" in found.output


def test_every_option_and_argument_of_a_path_takes_it_so():
    plain = [
        f"{name} {parameter.name}"
        for name, command in cli.commands.items()
        for parameter in command.params
        if isinstance(parameter.type, click.Path) and not isinstance(parameter.type, UserPath)
    ]
    assert cli.commands and plain == []


@pytest.mark.parametrize("command", [["onnx"], ["eval", "--data", "scenes:1:1"]])
def test_a_checkpoint_in_place_of_a_model_says_where_it_goes(command, tmp_path, capsys):
    (tmp_path / "best.pt").write_bytes(b"PK")
    with pytest.raises(SystemExit) as end:
        main([command[0], str(tmp_path / "best.pt"), *command[1:]])
    assert end.value.code == 2 and "--checkpoint" in capsys.readouterr().err
