"""The secrets and the files of a deployment."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path

import pytest
from typer.testing import CliRunner

from geodes_tasks.cli.command_group import app
from geodes_tasks.client import deployment
from geodes_tasks.errors import DeploymentError

ROOT = Path(__file__).parents[3]


def project_files() -> set[str]:
    """Return the deployment files of the checkout."""
    found = {p.relative_to(ROOT).as_posix() for p in (ROOT / "deploy").rglob("*") if p.is_file()}
    return found | {"docker-compose.yml", ".env.example", "constraints.txt"}


def test_every_file_is_copied(tmp_path: Path) -> None:
    """`deploy-files DIR` writes each file under its name in the project and prints it."""
    done = CliRunner().invoke(app, ["deploy-files", str(tmp_path / "site")])

    assert done.exit_code == 0
    written = {p.relative_to(tmp_path / "site").as_posix() for p in map(Path, done.stdout.split())}
    assert written == project_files()
    for name in written:
        assert (tmp_path / "site" / name).read_bytes() == (ROOT / name).read_bytes()
    assert "deploy/README.md" in done.stderr


def test_files_that_were_edited_are_kept(tmp_path: Path) -> None:
    """A second run overwrites no file that differs: the new version lies beside it."""
    deployment.copy_deploy_files(tmp_path)
    edited = tmp_path / "deploy" / "slurm" / "workers.sbatch"
    edited.write_text("mine")

    written = deployment.copy_deploy_files(tmp_path)

    assert edited.read_text() == "mine"
    beside = edited.with_name("workers.sbatch.new")
    assert beside in written
    assert beside.read_bytes() == (ROOT / "deploy" / "slurm" / "workers.sbatch").read_bytes()


def test_nothing_is_written_through_a_link(tmp_path: Path) -> None:
    """In a folder of several users neither secrets nor files reach another file of this user."""
    victim = tmp_path / "victim"
    victim.write_text("precious")
    (tmp_path / f".users.acl.{os.getpid()}").symlink_to(victim)
    (tmp_path / "docker-compose.yml").write_text("mine")
    (tmp_path / "docker-compose.yml.new").symlink_to(victim)

    deployment._write(tmp_path / "users.acl", "secret", 0o400)
    deployment.copy_deploy_files(tmp_path)

    assert victim.read_text() == "precious"
    assert (tmp_path / "users.acl").read_text() == "secret"
    assert (tmp_path / "users.acl").stat().st_mode & 0o777 == 0o400


def test_the_wheel_holds_every_file() -> None:
    """The project's list of data files names each file of `deploy/` and nothing that is missing."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    listed = settings["tool"]["setuptools"]["data-files"]
    found = {
        path.relative_to(ROOT).as_posix(): target
        for target, patterns in listed.items()
        for pattern in patterns
        for path in ROOT.glob(pattern)
    }

    assert set(found) == project_files()
    for name, target in found.items():
        assert f"{target}/{Path(name).name}" == f"share/geodes-tasks/{name}"


def test_an_installation_without_the_files_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An installer that drops data files is named instead of an empty folder being written."""
    monkeypatch.setattr(deployment, "__file__", str(tmp_path / "a" / "b" / "deployment.py"))

    with pytest.raises(DeploymentError, match="no deployment files"):
        deployment.copy_deploy_files(tmp_path / "site")


def test_a_folder_of_another_user_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that cannot be written ends the command with exit 2, the path and what to do."""

    def refuse(path: object, flags: int, mode: int) -> int:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("os.open", refuse)

    with pytest.raises(DeploymentError, match=r"worker/.password.*: Permission denied") as caught:
        deployment.make_secrets(tmp_path)

    assert "as the owner of the folder" in caught.value.hint


def test_the_command_makes_passwords_once(tmp_path: Path) -> None:
    """`secrets DIR` keeps the passwords that exist and takes several prefixes."""
    runner = CliRunner()
    runner.invoke(app, ["secrets", str(tmp_path)])
    before = (tmp_path / "worker" / "password").read_text()

    done = runner.invoke(app, ["secrets", str(tmp_path), "--prefix", "a:", "--prefix", "b:"])

    assert done.exit_code == 0
    assert (tmp_path / "worker" / "password").read_text() == before
    acl = (tmp_path / "acl" / "users.acl").read_text()
    assert "&a:/0.celery.pidbox" in acl
    assert "&b:/0.celery.pidbox" in acl
