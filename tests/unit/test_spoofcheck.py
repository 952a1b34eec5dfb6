"""The transaction of macspoofchk."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bridge import spoofcheck
from cni_plugins.errors import CniError, ExecError

RECORDED = Path(__file__).parent.parent / "reference" / "recorded"


class Nft:
    """Stands for nft at the adapter's seam: remembers what it is given, or refuses it."""

    def __init__(self, error=None, rules=()):
        self.error = error
        self.listed = rules
        self.applied = []
        self.asked = 0

    def apply(self, commands):
        if self.error:
            raise self.error
        self.applied.append(list(commands))

    def rules(self, *_place):
        self.asked += 1
        return self.listed

    def has_chain(self, *_place):
        return True


ATTACHMENT = {"container_id": "abc123", "ifname": "eth0"}


@pytest.mark.statement("SP-01", "SP-05")
def test_setup_is_one_transaction_like_the_references():
    step = json.loads((RECORDED / "bridge-l2-macspoofchk.json").read_text())["steps"][0]
    interfaces = step["stdout"]["interfaces"]
    nft = Nft()

    spoofcheck.ensure(nft, **ATTACHMENT, port_name=interfaces[1]["name"], mac=interfaces[2]["mac"])

    assert nft.asked == 0
    (commands,) = nft.applied
    made = [c["add"]["rule"] for c in commands if "add" in c and "rule" in c["add"]]
    recorded = [e["rule"] for e in step["after"]["nft"] if "rule" in e]
    for rule in recorded:
        del rule["handle"]
    assert sorted(made, key=str) == sorted(recorded, key=str)
    chains = [c["add"]["chain"]["name"] for c in commands if "chain" in c.get("add", {})]
    assert sorted(chains) == sorted(
        e["chain"]["name"] for e in step["after"]["nft"] if "chain" in e
    )


@pytest.mark.statement("SP-02")
def test_a_refusal_is_told():
    nft = Nft(error=ExecError("run nft: exit status 1", status=1, stderr="no"))

    with pytest.raises(CniError) as caught:
        spoofcheck.ensure(nft, **ATTACHMENT, port_name="veth1", mac="02:00:00:00:00:01")

    assert caught.value.msg.startswith("failed to setup spoof-check: ")


@pytest.mark.statement("SP-03")
def test_teardown_finds_the_jump_by_its_comment():
    theirs = {"handle": 4, "comment": "macspoofchk-other-eth0"}
    ours = {"handle": 7, "comment": "macspoofchk-abc123-eth0"}
    nft = Nft(rules=(theirs, ours))

    spoofcheck.discard(nft, **ATTACHMENT)

    (commands,) = nft.applied
    deleted = [c["delete"] for c in commands if "delete" in c]
    assert [d["rule"]["handle"] for d in deleted if "rule" in d] == [7]
    assert [d["chain"]["name"] for d in deleted if "chain" in d] == [
        "cni-br-iface-abc123-eth0",
        "cni-br-iface-abc123-eth0-mac",
    ]


@pytest.mark.statement("SP-04")
def test_a_teardown_that_fails_is_told():
    nft = Nft(error=ExecError("run nft: exit status 1", status=1, stderr="no"))

    with pytest.raises(CniError) as caught:
        spoofcheck.discard(nft, **ATTACHMENT)

    assert caught.value.msg.startswith("failed to teardown spoof-check: ")
    assert "no" in caught.value.details
