"""The secrets and the files of a deployment."""

from __future__ import annotations

import hashlib
import os
import tomllib
from pathlib import Path

import pytest
from typer.testing import CliRunner

from geodes_tasks.cli.command_group import app
from geodes_tasks.client import deployment
from geodes_tasks.errors import ConfigError, DeploymentError

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


@pytest.mark.parametrize(
    ("prefixes", "problem"),
    [
        (["geo des:"], "'geo des:' must have 1 to 64 letters"),
        (["a:\nuser evil on nopass ~* +@all"], "must have 1 to 64 letters"),
        (["geodes:*"], "must have 1 to 64 letters"),
        ([""], "must have 1 to 64 letters"),
        (["geodes:demo:", "a:", "geodes:"], "every key of 'geodes:demo:' is a key of 'geodes:'"),
    ],
)
def test_a_prefix_that_would_break_the_rights(
    tmp_path: Path, prefixes: list[str], problem: str
) -> None:
    """A prefix that the setting refuses, or that begins with another, writes nothing at all."""
    with pytest.raises(ConfigError, match=problem):
        deployment.make_secrets(tmp_path, prefixes)

    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("content", ["", "\n"])
def test_an_empty_password_is_none(tmp_path: Path, content: str) -> None:
    """A file that a full disk or a crash left empty gets a password; nobody logs in without one."""
    (tmp_path / "worker").mkdir()
    (tmp_path / "worker" / "password").write_text(content)

    deployment.make_secrets(tmp_path)

    password = (tmp_path / "worker" / "password").read_text()
    assert len(password) > 24
    digest = hashlib.sha256(password.encode()).hexdigest()
    assert f"user worker on #{digest} " in (tmp_path / "acl" / "users.acl").read_text()


def test_a_password_that_is_no_text(tmp_path: Path) -> None:
    """A password file that cannot be read as text is named, and its content is not quoted."""
    (tmp_path / "worker").mkdir()
    (tmp_path / "worker" / "password").write_bytes(b"s3cr3t\xff")

    with pytest.raises(DeploymentError, match=r"worker/password: not UTF-8 text") as caught:
        deployment.make_secrets(tmp_path)

    assert "s3cr3t" not in str(caught.value)


def test_the_bytes_of_a_password_are_on_disk_before_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a loss of power a file has its password, or is not there."""
    flushed: list[tuple[int, bool]] = []
    target = tmp_path / "password"

    def watched(descriptor: int) -> None:
        flushed.append((os.fstat(descriptor).st_size, target.exists()))

    monkeypatch.setattr(os, "fsync", watched)

    deployment._write(target, "secret", 0o400)

    assert flushed == [(6, False)]
