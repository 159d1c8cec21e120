"""The ACL file keeps up with the ledger: its commands, its keys, nobody's rights by accident."""

from __future__ import annotations

import re
from fnmatch import fnmatch
from pathlib import Path

import pytest

from geodes_tasks.client.deployment import COMMANDS, make_secrets
from geodes_tasks.tasks.app import BROKER_KEYS
from tests.unit.test_docs import ARCHITECTURE, rows, section

ROOT = Path(__file__).parents[2]
SCRIPTS = ROOT / "geodes_tasks" / "ledger" / "scripts"


@pytest.fixture
def secrets(tmp_path: Path) -> Path:
    """Make passwords and the file."""
    make_secrets(tmp_path)
    return tmp_path


def users(secrets: Path) -> dict[str, list[str]]:
    """Give the rules of each user."""
    lines = (secrets / "acl" / "users.acl").read_text().splitlines()
    return {line.split()[1]: line.split()[2:] for line in lines}


def test_every_command_of_the_scripts_is_allowed(secrets: Path) -> None:
    """What a script calls, whoever runs it may call: a script runs with its caller's rights."""
    called = {
        name.lower()
        for script in SCRIPTS.rglob("*.lua")
        for name in re.findall(r"\bcall\([^()']*'([A-Z]+)'", script.read_text())
    }
    known = users(secrets)

    assert len(called) > 15
    for user in ("worker", "client"):
        assert {f"+{name}" for name in called} - set(known[user]) == set(), user


def test_every_command_of_the_ledger_is_allowed(secrets: Path) -> None:
    """Both users may send each command of the ledger, but INFO and a private server's end."""
    sent = {
        {"delete": "del"}.get(name, name)
        for module in SCRIPTS.parent.glob("*.py")
        for name in re.findall(r"\b(?:redis|client|pipeline)\.([a-z]+)\(", module.read_text())
    } - {"pipeline", "execute", "shutdown", "info", "close"}
    # The client's name for these (redis.client.Redis.transaction).
    sent = sent - {"transaction"} | {"watch", "multi", "exec", "unwatch"}
    known = users(secrets)

    assert len(sent) > 15
    for user in ("worker", "client"):
        assert {f"+{name}" for name in sent} - set(known[user]) == set(), user


@pytest.mark.parametrize("prefix", ["geodes:", "geodes-demo:", "geodes:green:", "u2"])
def test_every_key_of_the_ledger_is_the_clients(tmp_path: Path, prefix: str) -> None:
    """The client has the ledger's keys, and of the broker's it reads none, under each prefix."""
    make_secrets(tmp_path, (prefix, "site:"))
    keys = [
        key
        for row in rows(section(ARCHITECTURE, "## The ledger"))
        for key in re.findall(r"`([^`]+)`", row[0])
    ]
    rules = [rule for rule in users(tmp_path)["client"] if rule.startswith("~")]
    patterns = [rule[1:].replace("[^", "[!") for rule in rules]

    assert len(keys) > 15
    for key in keys:
        name = prefix + re.sub(r"<[^>]*>", "x", key)
        assert any(fnmatch(name, pattern) for pattern in patterns), key
    for name in BROKER_KEYS:
        assert not any(fnmatch(f"{prefix}{name}", pattern) for pattern in patterns), name


def test_nobody_has_a_whole_category(secrets: Path) -> None:
    """Each user who can log in gets rights one by one, and never all keys."""
    known = users(secrets)
    del known["default"]
    for user, rules in known.items():
        assert "-@all" in rules, user
        added = [rule for rule in rules if rule.startswith("+")]
        assert not [rule for rule in added if "@" in rule], user
        assert not {"~*", "&*", "allkeys", "allchannels", "allcommands"} & set(rules), user


def test_the_default_user_has_all_rights_and_cannot_log_in(secrets: Path) -> None:
    """The server replays its append-only file as this user: fewer rights would lose the ledger."""
    rules = ["off", "resetpass", "allkeys", "allchannels", "+@all"]

    assert users(secrets)["default"] == rules


def test_the_viewer_has_no_command_that_writes(secrets: Path) -> None:
    """Read-only by its keys, and by its commands as well."""
    rules = users(secrets)["viewer"]
    writes = COMMANDS["ledger_writes"].split()

    assert set(writes) & set(rules) == set()
    assert [rule for rule in rules if "~" in rule] == ["%R~geodes:*"]


def test_saying_it_twice_keeps_the_passwords(secrets: Path) -> None:
    """Passwords are long, their owner's alone, in no other file, and stay until removed."""
    files = sorted(path for path in secrets.rglob("*") if path.is_file())
    before = {path: path.read_text() for path in files}
    (secrets / "client" / "password").unlink()

    make_secrets(secrets)

    changed = {p.relative_to(secrets).as_posix() for p in files if p.read_text() != before[p]}
    assert changed == {"client/password", "acl/users.acl"}
    for path in files:
        if path.parent.name != "acl":
            assert path.stat().st_mode & 0o077 == 0, path
            assert len(path.read_text()) >= 24
    acl = (secrets / "acl" / "users.acl").read_text()
    assert (secrets / "worker" / "password").read_text() not in acl


def test_another_installation_in_the_same_redis(tmp_path: Path) -> None:
    """Patterns of channels must stand in the file word for word, so each prefix is named."""
    make_secrets(tmp_path, ("geodes:", "site:"))

    known = users(tmp_path)

    for prefix in ("geodes:", "site:"):
        assert {f"~{prefix}*", f"&{prefix}*", f"&{prefix}/0.celery.pidbox"} <= set(known["worker"])
        assert {f"~{prefix}", f"%W~{prefix}geodes*", f"&{prefix}/*.celeryev*"} <= set(
            known["client"]
        )
        assert f"%R~{prefix}*" in known["viewer"]
        assert {f"~{prefix}_kombu.*", f"~{prefix}unacked*"} <= set(known["flower"])
