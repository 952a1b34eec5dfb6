"""The iptables adapter with tools that are scripts: side by side, and again after a refusal."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

import pytest

from cni_plugins.deadline import Deadline
from cni_plugins.errors import Busy, ExecError, Interrupted
from cni_plugins.host.command import Runner
from cni_plugins.host.iptables import Iptables, collect

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

LISTED = """*filter
:FORWARD ACCEPT [0:0]
-A FORWARD -j OTHER
COMMIT
*nat
:OURS - [0:0]
-A OURS -j RETURN
COMMIT
"""


class Scripts:
    """Tools in a directory, and what they were given."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        for prefix in ("iptables", "ip6tables"):
            self.install(f"{prefix}-save", f"cat {directory}/{prefix}")
            self.install(f"{prefix}-restore", "cat >> $0.given")
            (directory / prefix).write_text(LISTED)

    def install(self, name: str, script: str) -> None:
        """Put a tool in the place of another."""
        path = self.directory / name
        path.write_text(f"#!/bin/sh\necho $(basename $0) >> {self.directory}/executed\n{script}\n")
        path.chmod(0o755)

    def given(self, prefix: str) -> str:
        """What a restore tool has read, all of it."""
        path = self.directory / f"{prefix}-restore.given"
        return path.read_text() if path.exists() else ""

    @property
    def executed(self) -> list[str]:
        """The tools, sorted."""
        return sorted((self.directory / "executed").read_text().split())

    @property
    def iptables(self) -> Iptables:
        """The adapter on these tools."""
        return Iptables(Runner({"PATH": f"{self.directory}:/usr/bin:/bin"}, Deadline.after(20)))


@pytest.fixture
def scripts(tmp_path: Path) -> Scripts:
    """Tools that work."""
    return Scripts(tmp_path)


def test_what_was_shown_reads_like_a_listing(scripts: Scripts) -> None:
    """Policies are left out."""
    scripts.install("iptables-restore", "printf -- '-P INPUT ACCEPT\\n-N OURS\\n-A OURS -j X\\n'")
    shown = scripts.iptables.restore("nat", {4: ["-S"]})
    assert shown == {4: (":OURS - [0:0]", "-A OURS -j X")}


def test_a_family_that_refuses_does_not_stop_the_other(scripts: Scripts) -> None:
    """Both are answered; the command is named."""
    scripts.install("iptables-restore", "echo 'line 2 failed' >&2; exit 1")
    answers = scripts.iptables.restore("nat", {4: ["-N X"], 6: ["-N X"]})
    assert isinstance(answers[4], ExecError)
    assert answers[4].msg.startswith("change table nat with iptables-restore at '-N X': run ")
    assert answers[6] == ()
    assert scripts.given("ip6tables") == "*nat\n-N X\nCOMMIT\n"


def test_a_lock_that_is_not_to_be_had(scripts: Scripts) -> None:
    """Is another error: it may go away; the other family's tool was waited for."""
    said = "Another app is currently holding the xtables lock"
    scripts.install("iptables-restore", f"echo '{said}' >&2; exit 4")
    scripts.install("ip6tables-restore", "sleep 0.2; cat >> $0.given")
    with pytest.raises(Busy):
        scripts.iptables.restore("nat", {4: ["-N X"], 6: ["-N X"]})
    assert scripts.given("ip6tables")


def test_a_call_that_is_told_to_stop_ends_both_tools(scripts: Scripts) -> None:
    """None is left to change anything behind the rollback's back."""
    for prefix in ("iptables", "ip6tables"):
        scripts.install(f"{prefix}-restore", "echo $$ > $0.pid.new; mv $0.pid.new $0.pid; sleep 60")
    deadline = Deadline.after(60)
    runner = Runner({"PATH": f"{scripts.directory}:/usr/bin:/bin"}, deadline)
    changes = {family: Iptables(runner).start(family, "nat", ["-N X"]) for family in (4, 6)}
    files = [scripts.directory / f"{prefix}-restore.pid" for prefix in ("iptables", "ip6tables")]
    until = time.monotonic() + 20
    while not all(file.exists() for file in files):
        assert time.monotonic() < until
        time.sleep(0.01)
    deadline.interrupt("TERM")
    with pytest.raises(Interrupted):
        collect({family: change.finish for family, change in changes.items()})
    for file in files:
        with pytest.raises(ProcessLookupError):
            os.kill(int(file.read_text()), 0)


def delete_all(_family: int, present: Sequence[str]) -> list[str]:
    """Every rule."""
    return [f"-D{line.removeprefix('-A')}" for line in present if line.startswith("-A")]


def test_a_change_after_a_look(scripts: Scripts) -> None:
    """Of one table; a family where nothing is to be done has no transaction."""
    (scripts.directory / "ip6tables").write_text("*nat\n:OURS - [0:0]\nCOMMIT\n")
    scripts.iptables.revise("nat", (4, 6), delete_all)
    assert scripts.given("iptables") == "*nat\n-D OURS -j RETURN\nCOMMIT\n"
    assert scripts.executed == ["ip6tables-save", "iptables-restore", "iptables-save"]


def test_somebody_who_came_in_between(scripts: Scripts) -> None:
    """The family that was refused is looked at again, the other is not."""
    after = "*nat\n-A OURS -j ACCEPT\nCOMMIT"
    once = f"test -e $0.given || {{ touch $0.given; echo '{after}' > {scripts.directory}/iptables"
    scripts.install("iptables-restore", f"{once}; exit 1; }}; cat >> $0.given")
    scripts.iptables.revise("nat", (4, 6), delete_all)
    assert scripts.given("iptables") == "*nat\n-D OURS -j ACCEPT\nCOMMIT\n"
    assert scripts.executed.count("ip6tables-save") == 1
    assert scripts.executed.count("iptables-save") == 2


def test_what_is_refused_for_the_same_twice_is_not_asked_again(scripts: Scripts) -> None:
    """The tool's own word is the error; the other family is done."""
    scripts.install("iptables-restore", "echo 'line 2 failed' >&2; exit 1")
    with pytest.raises(ExecError, match="iptables-restore at '-D OURS -j RETURN'"):
        scripts.iptables.revise("nat", (4, 6), delete_all)
    assert scripts.executed.count("iptables-restore") == 1
    assert scripts.given("ip6tables")


def test_a_family_that_cannot_be_listed(scripts: Scripts) -> None:
    """Is an error, after the other was changed; without a tool there is nothing to list."""
    scripts.install("iptables-save", "exit 3")
    with pytest.raises(ExecError, match="run iptables-save: exit status 3"):
        scripts.iptables.revise("nat", (4, 6), delete_all)
    assert scripts.given("ip6tables")
    with pytest.raises(ExecError):
        scripts.iptables.tables((4, 6), "nat")


def test_a_listing_is_kept_until_something_is_changed(scripts: Scripts) -> None:
    """Family by family."""
    iptables = scripts.iptables
    with iptables.listed_once():
        for _ in range(2):
            assert iptables.rules(4, "filter") == (":FORWARD ACCEPT [0:0]", "-A FORWARD -j OTHER")
            assert iptables.tables((4, 6), "nat")[6] == (":OURS - [0:0]", "-A OURS -j RETURN")
        iptables.restore("nat", {4: ["-N X"]})
        iptables.tables((4, 6), "nat")
    assert scripts.executed.count("iptables-save") == 2
    assert scripts.executed.count("ip6tables-save") == 1


SHOW = "sed -n 's/^-S /-N /p'"


def test_chains_are_looked_at_by_a_transaction(scripts: Scripts) -> None:
    """A whole listing only where the tool refuses, as it does when a chain is missing."""
    scripts.install("iptables-restore", SHOW)
    scripts.install("ip6tables-restore", "exit 1")
    wanted = {4: ["OURS", "FORWARD", "OURS"], 6: ["OURS"]}
    assert scripts.iptables.chains("nat", wanted) == {
        4: (":OURS - [0:0]", ":FORWARD - [0:0]"),
        6: (":OURS - [0:0]", "-A OURS -j RETURN"),
    }
    assert scripts.executed == ["ip6tables-restore", "ip6tables-save", "iptables-restore"]


def test_a_look_that_runs_while_something_else_is_done(scripts: Scripts) -> None:
    """Is the one that is then taken; nobody has to, and its failure is told to who does."""
    iptables = scripts.iptables
    scripts.install("iptables-restore", SHOW)
    with iptables.looking("nat", {4: ["OURS"], 6: ["OURS"]}):
        assert iptables.chains("nat", {4: ["OURS"]}) == {4: (":OURS - [0:0]",)}
        iptables.chains("nat", {4: ["OURS"]})
    assert scripts.executed == ["ip6tables-restore", "iptables-restore", "iptables-restore"]
    scripts.install("iptables-save", "exit 3")
    scripts.install("iptables-restore", "exit 3")
    with iptables.looking("nat", {4: ["OURS"]}):
        pass
    with iptables.looking("nat", {4: ["OURS"]}), pytest.raises(ExecError):
        iptables.chains("nat", {4: ["OURS"]})
