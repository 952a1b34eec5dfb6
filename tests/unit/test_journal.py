"""What each attachment owns: written, read again, and never required."""

from __future__ import annotations

import json
import os
import stat
from typing import TYPE_CHECKING

import pytest

from cni_plugins.host.journal import ADDING, LIVE, Journal, Record
from cni_plugins.protocol import names
from cni_plugins.witness import Witness

if TYPE_CHECKING:
    from pathlib import Path

WITNESS = Witness(
    boot_id="b-1",
    boot_time=1_700_000_000,
    netns="/run/netns/a",
    netns_dev=4,
    netns_ino=4026532000,
    net=4026531840,
    mnt=4026531841,
    pid_ns=4026531836,
    user=4026531837,
    link_index=7,
    link_name="veth12345678",
    runtime="/usr/bin/containerd",
    pid=17,
    start=12345,
    created=1_700_000_100.5,
)
RECORD = Record(
    state=LIVE,
    build="dev",
    witness=WITNESS,
    env={"CNI_CONTAINERID": "c1", "CNI_IFNAME": "eth0", "CNI_ARGS": "A=\udcff"},
    config={"name": "net", "type": "bridge", "deep": [1, None, {"a": "é"}]},
    plan={"link_index": 7},
)
ATTACHMENT = names.attachment("net", "c1", "eth0")


class Node:
    """A journal in a temporary directory and what it complained about."""

    def __init__(self, root: Path) -> None:
        self.root = root / "journal"
        self.warnings: list[str] = []
        self.journal = Journal(self.warnings.append, str(self.root))

    def file(self) -> Path:
        """Where the record of the attachment is."""
        return self.root / "net" / ATTACHMENT / "bridge.json"


@pytest.fixture
def node(tmp_path: Path) -> Node:
    """A node whose journal does not exist yet."""
    return Node(tmp_path)


def test_a_record_is_read_as_it_was_written(node: Node) -> None:
    """With everything in it, for root only."""
    node.journal.write("net", ATTACHMENT, "bridge", RECORD)
    assert node.journal.read("net", ATTACHMENT, "bridge") == RECORD
    assert (RECORD.container_id, RECORD.ifname) == ("c1", "eth0")
    assert stat.S_IMODE(node.file().stat().st_mode) == 0o600
    assert node.warnings == []


def test_several_attachments_and_plugins(node: Node) -> None:
    """Each has a file of its own, also in a journal that exists already."""
    other = names.attachment("net", "c1", "eth1")
    node.journal.write("net", ATTACHMENT, "bridge", RECORD)
    node.journal.write("net", other, "bridge", RECORD)
    node.journal.write("net", ATTACHMENT, "portmap", RECORD)
    node.journal.write("net2", ATTACHMENT, "bridge", RECORD)
    found = dict(node.journal.entries("net", "bridge"))
    assert found == {ATTACHMENT: RECORD, other: RECORD}
    assert node.warnings == []


def test_a_record_is_replaced(node: Node) -> None:
    """Adding becomes live."""
    adding = Record(state=ADDING, build="dev", witness=WITNESS, env={}, config={})
    node.journal.write("net", ATTACHMENT, "bridge", adding)
    node.journal.write("net", ATTACHMENT, "bridge", RECORD)
    found = node.journal.read("net", ATTACHMENT, "bridge")
    assert found is not None
    assert found.state == LIVE


def test_discarding_leaves_no_empty_folders(node: Node) -> None:
    """And those of others alone; a second time is no trouble."""
    node.journal.write("net", ATTACHMENT, "bridge", RECORD)
    node.journal.write("net", ATTACHMENT, "portmap", RECORD)
    node.journal.discard("net", ATTACHMENT, "bridge")
    assert node.journal.read("net", ATTACHMENT, "portmap") == RECORD
    node.journal.discard("net", ATTACHMENT, "portmap")
    node.journal.discard("net", ATTACHMENT, "portmap")
    assert os.listdir(node.root) == []
    assert node.warnings == []


def test_no_journal(node: Node) -> None:
    """Nothing is there and nothing is said."""
    assert node.journal.read("net", ATTACHMENT, "bridge") is None
    assert list(node.journal.entries("net", "bridge")) == []
    node.journal.discard("net", ATTACHMENT, "bridge")
    assert node.warnings == []


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"null",
        b"[]",
        b"\xff\xfe",
        b"[" * 100_000,
        json.dumps({"schema": 2, "env": {}, "config": {}, "plan": {}}).encode(),
        json.dumps({"schema": 1, "env": {}, "config": []}).encode(),
    ],
    ids=["empty", "torn", "null", "array", "bytes", "deep", "newer", "incomplete"],
)
def test_a_record_that_cannot_be_understood_is_ignored(node: Node, content: bytes) -> None:
    """With one warning that names the file."""
    node.journal.write("net", ATTACHMENT, "bridge", RECORD)
    node.file().write_bytes(content)
    assert node.journal.read("net", ATTACHMENT, "bridge") is None
    assert len(node.warnings) == 1
    assert str(node.file()) in node.warnings[0]
    assert list(node.journal.entries("net", "bridge")) == []


def test_a_journal_that_cannot_be_written(tmp_path: Path) -> None:
    """The call goes on; each loss is told."""
    (tmp_path / "file").write_text("in the way")
    warnings: list[str] = []
    journal = Journal(warnings.append, f"{tmp_path}/file/journal")
    journal.write("net", ATTACHMENT, "bridge", RECORD)
    assert len(warnings) == 1
    assert journal.read("net", ATTACHMENT, "bridge") is None
    journal.discard("net", ATTACHMENT, "bridge")
    assert list(journal.entries("net", "bridge")) == []
    assert len(warnings) == 1


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        (None, Witness()),
        ("x", Witness()),
        ({"pid": "17", "boot_id": 5, "created": True, "start": None, "more": 1}, Witness()),
        ({"pid": 17, "created": 5.5}, Witness(pid=17, created=5.5)),
    ],
)
def test_witnesses_of_other_shapes(document: object, expected: Witness) -> None:
    """What is missing or of another type counts as unknown."""
    assert Witness.from_json(document) == expected


def test_names_of_attachments() -> None:
    """The same for the same attachment, another for any other."""
    assert ATTACHMENT == names.attachment("net", "c1", "eth0")
    others = {
        names.attachment("ne", "tc1", "eth0"),
        names.attachment("net", "c1e", "th0"),
        names.attachment("net", "c1", "eth1"),
    }
    assert len({ATTACHMENT, *others}) == 4
    assert names.veth("net", "c1", "eth0") != names.veth("net", "c1", "eth0", 1)
    assert len(names.veth("n" * 300, "c", "eth0").encode()) == 12
