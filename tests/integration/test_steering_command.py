"""``retry``, ``cancel`` and ``forget`` beside real workers; each is safe to say twice."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from geodes_tasks import Batch, enqueue
from geodes_tasks.client.enqueue_admission import current_owner
from geodes_tasks.client.steering import Steering
from geodes_tasks.errors import UnknownAccountError, UnknownBatchError, UnknownSourceError
from geodes_tasks.model.states import State
from geodes_tasks.settings import config
from tests.servers import wait_until
from tests.standin import KiB
from tests.terminal import Terminal
from tests.tools import need

if TYPE_CHECKING:
    from geodes_tasks.ledger import Ledger
    from geodes_tasks.settings.config import Config
    from tests.conftest import WorkerFactory
    from tests.standin import StandIn

Said = subprocess.CompletedProcess[str]


def command(settings: Config, *words: str) -> Said:
    """Run a command to its end."""
    return subprocess.run(
        [sys.executable, "-m", "geodes_tasks", *words], capture_output=True, text=True,
        env=os.environ | config.environment(settings), timeout=60, check=False,
    )  # fmt: skip


def records(ledger: Ledger) -> int:
    """Count the records that Redis holds."""
    return len(ledger.connection.client.keys(ledger.connection.key("download", "*")))


def test_retry_by_item_and_by_class(
    standin: StandIn, settings: Config, worker: WorkerFactory
) -> None:
    """Only what is named begins anew: an item, a file name, a class of errors."""
    items = [standin.add_item(KiB) for _ in range(4)]
    for item in items[:3]:
        standin.fault(item, "gone_404")
    standin.fault(items[3], "licence_423")
    worker()
    batch = enqueue(items, conf=settings, batch="mine")
    batch.wait(30)
    names = [Path(record.path).name for record in batch.results()]
    for item in items:
        standin.clear_faults(item)

    by_item = command(settings, "retry", "mine", items[0]["id"], names[1])
    wait_until(lambda: batch.status().states[State.SUCCESS] == 2, 20.0)
    by_class = command(settings, "retry", "mine", "--class", "LicenceError")
    wait_until(lambda: batch.status().states[State.SUCCESS] == 3, 20.0)
    again = command(settings, "retry", "mine", items[0]["id"])
    no_class = command(settings, "retry", "mine", "--class", "for_reader")
    rest = command(settings, "retry", "mine", "--failed")
    ended = batch.wait(20)

    assert by_item.stderr == "mine: 2 downloads queued again\n"
    assert by_class.stderr == "mine: 1 download queued again\n"
    assert again.stderr == "mine: 0 downloads queued again\n"
    assert no_class.returncode == 2
    assert no_class.stderr.startswith("error: --class: no error has the class 'for_reader'")
    assert rest.stderr == "mine: 1 download queued again\n"
    assert ended.states[State.SUCCESS] == 4


def test_cancel_spares_what_another_batch_asks_for(
    standin: StandIn, settings: Config, ledger: Ledger
) -> None:
    """Two people asked for one file; one changes their mind."""
    items = [standin.add_item(KiB) for _ in range(2)]
    other = enqueue(items[:1], conf=settings, batch="other")
    enqueue(items, conf=settings, batch="mine")

    said = command(settings, "cancel", "mine").stderr

    assert said == "mine: 1 download cancelled, 1 kept for another batch\n"
    assert [record.state for record in other.results()] == [State.PENDING]


def test_a_broker_that_refuses_is_one_line(
    standin: StandIn, settings: Config, ledger: Ledger
) -> None:
    """The ledger takes the change and the broker no message: a worker sends it later."""
    connection, binding = ledger.connection, ledger.connection.key("_kombu.binding.geodes")
    command(settings, "pause", "--account", settings.account)
    enqueue([standin.add_item(KiB)], conf=settings, batch="mine")
    connection.client.delete(binding)
    connection.client.set(binding, "rubbish")

    said = command(settings, "resume", "--account", settings.account)

    assert said.returncode == 1
    assert said.stderr.startswith("error: Redis at ")
    assert "WRONGTYPE" in said.stderr
    assert ledger.account.states()[0].paused is None


def test_cancel_some_of_a_batch(standin: StandIn, settings: Config, ledger: Ledger) -> None:
    """What is named is cancelled, once; the rest stays queued."""
    items = [standin.add_item(KiB) for _ in range(3)]
    batch = enqueue(items, conf=settings, batch="mine")

    said = [command(settings, "cancel", "mine", items[1]["id"]).stderr for _ in range(2)]

    assert said == ["mine: 1 download cancelled\n", "mine: 0 downloads cancelled\n"]
    assert [record.state for record in batch.results()] == [
        State.PENDING,
        State.REVOKED,
        State.PENDING,
    ]


@pytest.mark.parametrize("word", ["retry", "cancel"])
def test_a_name_that_is_not_there(standin: StandIn, settings: Config, word: str) -> None:
    """A slip of the keyboard changes nothing and is named."""
    item = standin.add_item(KiB)
    batch = enqueue(item, conf=settings, batch="mine")

    far = command(settings, word, "mine", item["id"], "nope.zip")
    near = command(settings, word, "mine", item["id"][:-1])

    assert (far.returncode, near.returncode) == (2, 2)
    assert far.stderr.startswith("error: batch 'mine' has no download of 'nope.zip'. Give the id")
    assert f"Did you mean {item['id']}" in near.stderr
    assert batch.status().states[State.PENDING] == 1


def test_forget_a_finished_batch(
    standin: StandIn, settings: Config, worker: WorkerFactory, ledger: Ledger
) -> None:
    """Records go, files stay; then the batch is unknown; enqueued again, all is there."""
    items = [standin.add_item(64 * KiB) for _ in range(5)]
    worker()
    batch = enqueue(items, conf=settings, batch="mine")
    batch.wait(30)
    paths = [Path(record.path) for record in batch.results()]

    first, second = (command(settings, "forget", "mine") for _ in range(2))
    between = records(ledger)
    fetched = len(standin.downloads())
    again = enqueue(items, conf=settings, batch="again").wait(30)

    assert first.returncode == 0
    assert first.stderr == "mine: forgotten with its 5 downloads; files stay\n"
    assert second.returncode == 2
    assert second.stderr.startswith("error: batch 'mine' is not in the ledger. Check the name")
    assert between == 0
    assert all(path.is_file() for path in paths)
    assert again.outcomes["ALREADY_PRESENT"] == 5
    assert len(standin.downloads()) == fetched


def test_forget_an_unfinished_batch(
    standin: StandIn, settings: Config, worker: WorkerFactory, ledger: Ledger
) -> None:
    """Unfinished it is kept; by force what runs is stopped, and a worker removes what is left."""
    standin.settings.rate = 50 * KiB
    slow, shared = standin.add_item(4096 * KiB), standin.add_item(4096 * KiB)
    batch = enqueue([slow, shared], conf=settings, batch="mine")
    other = enqueue(shared, conf=settings, batch="other")
    worker()
    wait_until(lambda: batch.status().states[State.STARTED] == 2, 20.0)

    kept = command(settings, "forget", "mine")
    forced = command(settings, "forget", "mine", "--force")
    wait_until(lambda: records(ledger) == 1, 20.0)

    assert kept.returncode == 3
    assert "batch 'mine' is kept: it has unfinished downloads (2)" in kept.stderr
    assert forced.returncode == 0
    assert "mine: forgotten with its" in forced.stderr
    assert other.status().states[State.STARTED] == 1
    assert [path.name for path in Path(settings.download_dir).rglob("*.part")] != []


def test_forget_by_age(standin: StandIn, settings: Config, ledger: Ledger) -> None:
    """``--older-than`` takes the old ones, keeps the young and the unfinished, and says so."""
    for name in ("old", "busy", "young"):
        batch = enqueue(standin.add_item(KiB), conf=settings, batch=name)
        if name != "busy":
            ledger.control.cancel(list(ledger.reading.downloads(batch.id)))
    month = 31 * 86400.0
    for name in ("old", "busy"):
        ledger.connection.client.zincrby(ledger.connection.key("batches"), -month, name)

    said = command(settings, "forget", "--all", "--older-than", "30d", "--yes")
    young = command(settings, "forget", "young", "--older-than", "30d")

    assert said.returncode == 3
    assert "old: forgotten with its 1 download; files stay\n" in said.stderr
    assert "batch 'busy' is kept: it has unfinished downloads (1)" in said.stderr
    assert (young.returncode, young.stderr) == (0, "no batch is that old\n")
    assert set(ledger.reading.batches()) == {"busy", "young"}


# --- nothing by default --------------------------------------------------------------------------


@pytest.mark.parametrize("word", ["cancel", "retry", "forget"])
@pytest.mark.parametrize("words", [(), ("mine", "--all")], ids=["none", "both"])
def test_nothing_is_meant_by_default(
    standin: StandIn, settings: Config, word: str, words: tuple[str, ...]
) -> None:
    """Without a batch or --all, and with both, nothing changes, and the line to type is shown."""
    batch = enqueue(standin.add_item(KiB), conf=settings, batch="mine")

    said = command(settings, word, *words)

    assert said.returncode == 2
    assert f"Type `geodes-tasks {word} mine`, or `geodes-tasks {word} --all`" in said.stderr
    assert batch.status().states[State.PENDING] == 1


def test_forget_by_age_alone_is_refused(settings: Config) -> None:
    """An age chooses among batches that are meant; it means none."""
    alone, no_age = (command(settings, "forget", *words) for words in (
        ("--older-than", "1d"), ("--all", "--older-than", "soon"),
    ))  # fmt: skip

    assert (alone.returncode, no_age.returncode) == (2, 2)
    assert "needs a batch or --all" in alone.stderr
    assert "'soon' is no duration" in no_age.stderr


@pytest.mark.parametrize(
    "words",
    [
        ("cancel", "tusday"), ("retry", "tusday"), ("forget", "tusday"), ("status", "tusday"),
        ("pause", "tusday"), ("pause", "--batch", "tusday"), ("resume", "--batch", "tusday"),
        ("watch", "tusday"), ("report", "tusday"), ("forget", "tuesday", "tusday"),
    ],
    ids=" ".join,
)  # fmt: skip
def test_an_unknown_batch_is_refused(
    standin: StandIn, settings: Config, ledger: Ledger, words: tuple[str, ...]
) -> None:
    """Every command exits with 2 and the nearest names, and changes nothing."""
    enqueue(standin.add_item(KiB), conf=settings, batch="tuesday")

    said = command(settings, *words)

    assert said.returncode == 2
    assert "'tusday'" in said.stderr
    assert "Did you mean tuesday?" in said.stderr
    assert (ledger.reading.batches(), ledger.control.pauses()) == (["tuesday"], {})


@pytest.mark.parametrize("word", ["pause", "resume"])
@pytest.mark.parametrize(
    ("words", "nearest"),
    [
        (("defualt",), "Did you mean default?"),
        (("--account", "defualt"), "Did you mean default?"),
        (("--account", "other"), "enqueue --account NAME"),
        (("--source", "geode"), "Did you mean geodes?"),
        (("--source", "ftp"), "The sources are geodes and s3"),
    ],
    ids=str,
)
def test_an_unknown_account_or_source_is_refused(
    settings: Config, ledger: Ledger, word: str, words: tuple[str, ...], nearest: str
) -> None:
    """No account and no source comes into being by a slip of the keyboard."""
    said = command(settings, word, *words)

    assert said.returncode == 2
    assert nearest in said.stderr
    assert (ledger.dispatch.accounts(), ledger.control.pauses()) == ([], {})


def test_the_accounts_of_workers_are_known(
    standin: StandIn, settings: Config, worker: WorkerFactory, ledger: Ledger
) -> None:
    """An account whose key a worker has can be paused before anything was enqueued with it."""
    worker(env={"GEODES_API_KEY_LAB": "key-of-the-lab-1234"})
    wait_until(
        lambda: "lab" in ledger.dispatch.published("accounts"), 20.0, "the worker's accounts"
    )

    said = command(settings, "pause", "--account", "lab")

    assert (said.returncode, said.stderr) == (0, "lab: paused\n")
    assert "key-of-the-lab" not in str(
        ledger.connection.client.hgetall(ledger.connection.client.keys("*worker:*")[0])
    )


def test_a_name_that_can_be_read_in_two_ways(
    standin: StandIn, settings: Config, ledger: Ledger
) -> None:
    """A batch called as an account is: the command says which it takes, options name the other."""
    enqueue(standin.add_item(KiB), conf=settings, batch="default")

    bare = command(settings, "resume", "default")
    named = command(settings, "pause", "--batch", "default")

    assert bare.stderr == (
        "default is also the name of a batch: use --batch default for that one\n"
        "default: was not paused\n"
    )
    assert named.stderr == "default: paused\n"
    assert ledger.control.pauses() == {("batch", "default"): "by hand"}


def test_what_was_paused_unchecked_can_be_resumed(settings: Config, ledger: Ledger) -> None:
    """A name that is held in the ledger is known, whatever it names."""
    ledger.control.pause("source", "ftp", "by hand")
    ledger.control.pause("batch", "typo", "by hand")

    said = [command(settings, "resume", name).stderr for name in ("ftp", "typo")]

    assert said == ["ftp: resumed\n", "typo: resumed\n"]
    assert ledger.control.pauses() == {}


# --- more than one batch, another owner's batch --------------------------------------------------


def of_alice(ledger: Ledger, batch: str) -> None:
    """Have a batch belong to another user."""
    ledger.connection.client.hset(ledger.connection.key("batch", batch), "owner", "alice@lab")


def test_the_owner_is_kept(standin: StandIn, settings: Config, ledger: Ledger) -> None:
    """Who enqueued a batch first, and when, is in its status; unknown in an older batch."""
    item = standin.add_item(KiB)
    batch = enqueue(item, conf=settings, batch="mine")
    told = json.loads(command(settings, "status", "mine", "--json").stdout)
    of_alice(ledger, "mine")
    enqueue(item, conf=settings, batch="mine")
    kept = batch.status().owner
    ledger.connection.client.hdel(ledger.connection.key("batch", "mine"), "owner")

    assert told["owner"] == current_owner()
    assert datetime.fromisoformat(told["enqueued_at"]).utcoffset() == timedelta(0)
    assert kept == "alice@lab"
    assert batch.status().owner is None


@pytest.mark.parametrize("word", ["cancel", "retry", "forget"])
@pytest.mark.parametrize("case", ["two", "another's", "nobody's"])
def test_a_script_needs_yes(
    standin: StandIn, settings: Config, ledger: Ledger, word: str, case: str
) -> None:
    """Without a terminal the line to type is shown, and nothing changes until it is typed."""
    names = ["first", "second"] if case == "two" else ["first"]
    for name in names:
        enqueue(standin.add_item(KiB), conf=settings, batch=name)
        ids = list(ledger.reading.downloads(name))
        if word == "retry":
            ledger.control.cancel(ids)
            ledger.connection.client.hset(ledger.connection.key("batch", name), "state:FAILURE", 1)
    if case == "another's":
        of_alice(ledger, "first")
    if case == "nobody's":
        ledger.connection.client.hdel(ledger.connection.key("batch", "first"), "owner")
    words = [word, "--all"] if case == "two" else [word, "first"]
    before = [ledger.reading.status(name) for name in names]

    refused = command(settings, *words)
    after = [ledger.reading.status(name) for name in names]
    agreed = command(settings, *words, "--yes")

    assert refused.returncode == 2
    assert "needs a confirmation" in refused.stderr
    assert f"Type: geodes-tasks {' '.join(words)} --yes" in refused.stderr
    owner = {"two": current_owner(), "another's": "alice@lab", "nobody's": "unknown"}[case]
    assert f"first: owner {owner}, 0 of 1 done, 1 " in refused.stderr
    assert before == after
    assert agreed.returncode == (3 if word == "forget" else 0)
    assert all(f"{name}: " in agreed.stderr or f"'{name}'" in agreed.stderr for name in names)


def test_all_is_every_batch_of_the_ledger(
    standin: StandIn, settings: Config, ledger: Ledger
) -> None:
    """``--all`` cancels what is left of each; a second time there is nothing to confirm."""
    for name in ("first", "second"):
        enqueue(standin.add_item(KiB), conf=settings, batch=name)

    first, second = (command(settings, "cancel", "--all", *words) for words in (("-y",), ()))

    assert first.returncode == second.returncode == 0
    assert sorted(first.stderr.splitlines()) == [
        "first: 1 download cancelled", "second: 1 download cancelled",
    ]  # fmt: skip
    assert second.stderr == "no batch is unfinished\n"


def test_a_person_is_asked(standin: StandIn, settings: Config, ledger: Ledger) -> None:
    """At a terminal the owner and the counts are shown; no changes nothing, yes cancels."""
    need("tmux", "tmux")
    batch = enqueue(standin.add_item(KiB), conf=settings, batch="mine")
    of_alice(ledger, "mine")
    seen = []
    for answer in ("n", "y"):
        with Terminal(columns=110) as terminal:
            words = [sys.executable, "-m", "geodes_tasks", "cancel", "mine"]
            terminal.run(words, config.environment(settings))
            terminal.wait_for("mine: owner alice@lab, 0 of 1 done, 1 queued", "Cancel the batch")
            terminal.type(f"{answer}\n")
            terminal.wait_for(
                "nothing was changed" if answer == "n" else "mine: 1 download cancelled"
            )
        seen.append(batch.status().states[State.REVOKED])

    assert seen == [0, 1]


def test_cancel_by_class(standin: StandIn, settings: Config, worker: WorkerFactory) -> None:
    """Only what waits after an error of the class is cancelled."""
    tape, slow = standin.add_item(KiB), standin.add_item(KiB)
    standin.fault(tape, "offline_410")
    standin.fault(slow, "status_n_times", status=500)
    worker(
        settings=settings.replace(
            offline_poll_seconds=300.0, backoff_seconds=300.0, max_attempts=1000
        )
    )
    batch = enqueue([tape, slow], conf=settings, batch="mine")
    wait_until(lambda: batch.status().states[State.RETRY] == 2, 20.0, "both wait")

    said = command(settings, "cancel", "mine", "--class", "OfflineError")

    assert said.stderr == "mine: 1 download cancelled\n"
    states = {record.item_id: record.state for record in batch.results()}
    assert states[tape["id"]] is State.REVOKED
    assert states[slow["id"]] is State.RETRY


@pytest.mark.slow
def test_the_limit_of_an_account_by_hand(
    standin: StandIn, settings: Config, ledger: Ledger
) -> None:
    """It holds until `auto`; a limit beyond that of the workers and a typo change nothing."""
    enqueue(standin.add_item(KiB), conf=settings, batch="mine")

    low, high, typo, auto = (
        command(settings, "limit", *words.split())
        for words in ("default 1", "default 99", "defualt 2", "default auto")
    )
    why = command(settings, "status", "mine", "--why").stdout
    rows = ledger.account.changes("default")

    assert (low.returncode, low.stderr) == (0, "default: at most 1 transfer at once, by hand\n")
    assert (high.returncode, typo.returncode) == (2, 2)
    assert high.stderr.startswith("error: N: 99 is not between 1 and 4. GEODES_TASKS_MAX_CONC")
    assert "Did you mean default?" in typo.stderr
    assert (auto.returncode, auto.stderr) == (0, "default: at most 4 transfers at once\n")
    assert [(row.before, row.places, row.why) for row in rows] == [
        (1, 4, "set by hand"),
        (4, 1, "set by hand"),
    ]
    assert "raised  from 1 to 4: set by hand" in why
    assert "lowered from 4 to 1: set by hand" in why


def test_batches_are_listed(standin: StandIn, settings: Config, ledger: Ledger) -> None:
    """A line a batch for people, the objects of `status --json` for programs."""
    none = command(settings, "batches")
    enqueue(standin.add_item(KiB), conf=settings, batch="april")
    enqueue([standin.add_item(KiB) for _ in range(2)], conf=settings, batch="may")

    said, data = command(settings, "batches"), command(settings, "batches", "--json")
    rows = json.loads(data.stdout)

    assert (none.returncode, none.stderr) == (4, "no batch in the ledger yet\n")
    assert (said.returncode, said.stderr) == (0, "")
    words = [line.split()[0] for line in said.stdout.splitlines() if line[0] != " "]
    assert words == ["BATCHES", "may", "april"]
    assert f"{current_owner()}" in " ".join(said.stdout.split())
    assert [row["batch"] for row in rows] == ["may", "april"]
    assert rows[0]["states"]["PENDING"] == 2


# --- from Python ---------------------------------------------------------------------------------


def test_python_never_acts_on_what_is_unknown(
    standin: StandIn, settings: Config, ledger: Ledger
) -> None:
    """Each method names what it acts on, and raises for a name that is not known."""
    enqueue(standin.add_item(KiB), conf=settings, batch="mine")
    steering = Steering(settings)

    for act in (steering.retry, steering.cancel, steering.forget, Batch("mien", ledger).status):
        arguments = () if act.__name__ == "status" else ("mien",)
        with pytest.raises(UnknownBatchError, match="'mien' is not in the ledger") as raised:
            act(*arguments)
        assert raised.value.nearest == "mine"
    for unset in (steering.retry, steering.cancel, steering.forget):
        with pytest.raises(UnknownBatchError, match="'' is not in the ledger"):
            unset("")
    with pytest.raises(UnknownAccountError, match="account 'lab' is not configured"):
        steering.pause("account", "lab")
    with pytest.raises(UnknownSourceError, match="'s4' is no source"):
        steering.pause("source", "s4")
    assert ledger.reading.status("mine").states[State.PENDING] == 1
