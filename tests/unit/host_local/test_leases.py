"""host-local's verbs on a directory; nothing of it needs root."""

from __future__ import annotations

import json
import os
import time

import pytest

from cni_plugins import catalog, dispatch
from cni_plugins.deadline import Deadline
from cni_plugins.host.store import Store
from cni_plugins.protocol import spec
from cni_plugins.protocol.request import Request
from cni_plugins.witness import Witness
from host_local_ipam.index import Index
from host_local_ipam.index import Owner as Record

ROUTES = [
    {"dst": "0.0.0.0/0"},
    {"dst": "::/0"},
    {"dst": "192.168.0.0/16", "gw": "1.1.1.1"},
    {"dst": "2001:db8:2::0/64", "gw": "2001:db8:3::1"},
]


class Network:
    """A network's leases in a directory of the test."""

    def __init__(self, root, name="mynet"):
        self.root = str(root)
        self.name = name

    @property
    def folder(self):
        return f"{self.root}/{self.name}"

    def call(
        self,
        command,
        *ranges,
        version="1.0.0",
        id="dummy",
        ifname="eth0",
        args="",
        more=None,
        **ipam,
    ):
        document = {
            "cniVersion": version,
            "name": self.name,
            "type": "host-local",
            "ipam": {
                "type": "host-local",
                "dataDir": self.root,
                "ranges": [[{"subnet": r} if isinstance(r, str) else r for r in s] for s in ranges],
                **ipam,
            },
            **(more or {}),
        }
        env = {
            "CNI_COMMAND": command,
            "CNI_CONTAINERID": id,
            "CNI_NETNS": "/run/netns/nowhere",
            "CNI_IFNAME": ifname,
            "CNI_ARGS": args,
            "CNI_PATH": "/nowhere",
        }
        stdin = json.dumps(document).encode()
        plugin = catalog.find("host-local")
        assert plugin is not None
        self.reply = dispatch.run(plugin, Request(env, lambda: stdin, Deadline.after(10)))
        return json.loads(self.reply.stdout) if self.reply.stdout else {}

    def add(self, *ranges, **facts):
        """The addresses an ADD gives, or the message it fails with."""
        answer = self.call("ADD", *ranges, **facts)
        if self.reply.exit_code:
            return answer["msg"]
        return [ip["address"] for ip in answer["ips"]]

    def delete(self, *ranges, **facts):
        self.call("DEL", *ranges, **facts)
        assert self.reply.exit_code == 0, self.reply

    def leases(self):
        return sorted(n for n in os.listdir(self.folder) if n[0].isdigit() or ":" in n)

    def read(self, name):
        with open(f"{self.folder}/{name}", "rb") as file:
            return file.read()

    def write(self, name, content):
        os.makedirs(self.folder, exist_ok=True)
        with open(f"{self.folder}/{name}", "wb") as file:
            file.write(content)


@pytest.fixture
def net(tmp_path):
    return Network(tmp_path)


DUAL = (["10.1.2.0/24", "10.2.2.0/24"], ["2001:db8:1::/64"])


@pytest.mark.statement("HL-01", "HL-02", "HL-03", "HL-04")
@pytest.mark.parametrize("version", spec.ALL)
def test_dual_stack(net, version):
    answer = net.call("ADD", *DUAL, version=version, routes=ROUTES)

    if version < "0.3.0":
        assert answer["ip4"]["ip"] == "10.1.2.2/24"
        assert answer["ip6"]["ip"] == "2001:db8:1::2/64"
        routes = answer["ip4"]["routes"] + answer["ip6"]["routes"]
    else:
        assert [(ip["address"], ip["gateway"]) for ip in answer["ips"]] == [
            ("10.1.2.2/24", "10.1.2.1"),
            ("2001:db8:1::2/64", "2001:db8:1::1"),
        ]
        assert all(("version" in ip) == (version < "1.0.0") for ip in answer["ips"])
        routes = answer["routes"]
    assert {r["dst"] for r in routes} == {
        "0.0.0.0/0", "::/0", "192.168.0.0/16", "2001:db8:2::/64",
    }  # fmt: skip
    assert net.read("10.1.2.2") == net.read("2001:db8:1::2") == b"dummy\r\neth0"
    assert net.read("last_reserved_ip.0") == b"10.1.2.2"
    assert net.read("last_reserved_ip.1") == b"2001:db8:1::2"

    net.delete(*DUAL, version=version)

    assert net.leases() == []


@pytest.mark.statement("HL-05")
def test_two_networks_and_two_interfaces(tmp_path):
    one, two = Network(tmp_path, "one"), Network(tmp_path, "two")
    assert one.add(["10.1.2.0/24"]) == ["10.1.2.2/24"]
    assert two.add(["10.2.2.0/24"], ifname="eth1") == ["10.2.2.2/24"]

    one.delete(["10.1.2.0/24"])

    assert one.leases() == []
    assert two.read("10.2.2.2") == b"dummy\r\neth1"


@pytest.mark.statement("HL-06")
def test_a_second_add_is_refused(net):
    pool = ["10.1.2.0/24"]
    net.add(pool, id="one")
    assert "10.1.2.2 has been allocated to one, duplicate allocation is not allowed" in net.add(
        pool, id="one"
    )
    assert net.add(pool, id="two") == ["10.1.2.3/24"]
    assert "duplicate allocation" in net.add(
        pool, id="one", more={"args": {"cni": {"ips": ["10.1.2.9"]}}}
    )
    assert net.leases() == ["10.1.2.2", "10.1.2.3"]

    net.delete(pool, id="one")
    net.delete(pool, id="two")

    assert net.leases() == []


@pytest.mark.statement("HL-07")
def test_a_lease_with_the_id_alone(net):
    net.add(["10.1.2.0/24"])
    net.write("10.1.2.2", b"dummy")

    net.delete(["10.1.2.0/24"])

    assert net.leases() == []


def test_an_id_that_is_an_address_does_not_take_other_files_along(net):
    net.add(["10.1.2.0/24"], id="10.1.2.2")
    net.add(["10.1.2.0/24"], id="other")

    net.delete(["10.1.2.0/24"], id="10.1.2.2")

    assert net.leases() == ["10.1.2.3"]
    assert net.read("last_reserved_ip.0") == b"10.1.2.3"


@pytest.mark.statement("HL-08")
def test_del_of_an_unknown_id(net):
    net.delete(["10.1.2.0/24"])

    assert os.listdir(net.root) == []


@pytest.mark.statement("HL-09")
def test_white_space_around_a_lease_does_not_matter(net):
    """The dispatcher refuses such ids; a lease that has them is found all the same."""
    net.write("10.1.2.7", b"  dummy\r\neth0\n")

    net.delete(["10.1.2.0/24"])

    assert net.leases() == []


@pytest.mark.statement("HL-10")
def test_a_fresh_network_says_nothing(net):
    net.add(["10.1.2.0/24"])

    assert net.reply.stderr == b""


@pytest.mark.statement("HL-11")
def test_a_requested_address(net):
    assert net.add(["10.1.2.0/24"], more={"args": {"cni": {"ips": ["10.1.2.88"]}}}) == [
        "10.1.2.88/24"
    ]
    assert net.add(["10.1.2.0/24"], id="two", args="IP=10.1.2.99") == ["10.1.2.99/24"]


@pytest.mark.statement("HL-12")
def test_two_requested_addresses_in_two_sets(net):
    pools = (["10.1.2.0/24"], ["10.1.3.0/24"])
    wanted = {"args": {"cni": {"ips": ["10.1.2.88", "10.1.3.77"]}}}

    assert net.add(*pools, more=wanted) == ["10.1.2.88/24", "10.1.3.77/24"]
    assert net.add(*pools, more=wanted, version="0.2.0") == (
        "CNI version 0.2.0 does not support more than 1 address per family"
    )


@pytest.mark.statement("HL-13")
def test_a_requested_address_of_the_second_range(net):
    wanted = {"args": {"cni": {"ips": ["10.2.2.77", "2001:db8:1::999"]}}}

    assert net.add(*DUAL, more=wanted) == ["10.2.2.77/24", "2001:db8:1::999/64"]


@pytest.mark.statement("HL-14")
def test_two_requested_addresses_in_one_set(net):
    wanted = {"args": {"cni": {"ips": ["10.1.2.88", "10.1.2.77"]}}}

    said = net.add(["10.1.2.0/24"], ["10.1.3.0/24"], more=wanted)

    assert said.startswith("failed to allocate all requested IPs: 10.1.2.")
    assert not os.path.exists(net.folder)


@pytest.mark.statement("HL-16")
def test_the_lock_is_an_empty_file_that_stays(net):
    net.add(["10.1.2.0/24"])
    net.delete(["10.1.2.0/24"])

    assert net.read("lock") == b""
    assert os.stat(f"{net.folder}/lock").st_mode & 0o777 == 0o750 & ~_umask()
    assert os.stat(net.folder).st_mode & 0o777 == 0o755 & ~_umask()


def _umask():
    mask = os.umask(0)
    os.umask(mask)
    return mask


WALKS = {
    "fresh": ("10.0.0.0/29", {}, None, "10.0.0.2"),
    "fresh v6": ("2001:db8:1::/64", {}, None, "2001:db8:1::2"),
    "small": ("10.0.0.0/30", {}, None, "10.0.0.2"),
    "over an occupied one": ("10.0.0.0/29", {"10.0.0.2"}, None, "10.0.0.3"),
    "behind the last": ("10.0.0.0/29", {}, "10.0.0.5", "10.0.0.6"),
    "behind the last, over two": ("10.0.0.0/29", {"10.0.0.4", "10.0.0.5"}, "10.0.0.3", "10.0.0.6"),
    "around": ("10.0.0.0/29", {"10.0.0.6"}, "10.0.0.5", "10.0.0.2"),
    "last of another range": ("10.0.0.0/29", {}, "10.0.0.128", "10.0.0.2"),
    "only the last is free": (
        "10.0.0.0/29",
        {"10.0.0.2", "10.0.0.4", "10.0.0.5", "10.0.0.6"},
        "10.0.0.3",
        "10.0.0.3",
    ),
}


@pytest.mark.statement("HL-18")
@pytest.mark.parametrize("name", WALKS)
def test_where_the_walk_starts(net, name):
    pool, occupied, last, expected = WALKS[name]
    for address in occupied:
        net.write(address, b"other\r\neth0")
    if last:
        net.write("last_reserved_ip.0", last.encode())

    assert net.add([pool]) == [f"{expected}/{pool.rpartition('/')[2]}"]


@pytest.mark.statement("HL-18", "HL-23")
@pytest.mark.parametrize(
    ("last", "expected"),
    [(None, "10.0.0.2"), ("10.0.0.2", "10.0.1.2"), ("10.0.2.2", "10.0.0.2")],
)
def test_a_walk_over_three_ranges(net, last, expected):
    if last:
        net.write("last_reserved_ip.0", last.encode())

    assert net.add(["10.0.0.0/30", "10.0.1.0/30", "10.0.2.0/30"]) == [f"{expected}/30"]


@pytest.mark.statement("HL-19", "HL-22")
def test_a_29_gives_five_addresses(net):
    given = [net.add(["192.168.1.0/29"], id=f"c{i}") for i in range(6)]

    assert given[:5] == [[f"192.168.1.{i}/29"] for i in range(2, 7)]
    assert given[5] == (
        "failed to allocate for range 0: no IP addresses available in range set: "
        "192.168.1.1-192.168.1.6"
    )


@pytest.mark.statement("HL-22")
@pytest.mark.parametrize("pool", [["12.1.2.0/30"], ["12.1.2.0/30", "12.1.3.0/30"]])
def test_a_full_set(net, pool):
    for i in range(len(pool)):
        assert len(net.add(pool, id=f"c{i}")) == 1

    assert "no IP addresses available in range set: 12.1.2.1-12.1.2.2" in net.add(pool, id="last")


@pytest.mark.statement("HL-20")
def test_an_address_given_back_is_not_the_next(net):
    assert net.add(["10.0.0.0/29"]) == ["10.0.0.2/29"]
    net.delete(["10.0.0.0/29"])

    assert net.add(["10.0.0.0/29"]) == ["10.0.0.3/29"]


@pytest.mark.statement("HL-21")
def test_a_requested_address_is_given_once(net):
    pool = [{"subnet": "10.0.0.0/24", "rangeStart": "10.0.0.5", "rangeEnd": "10.0.0.9"}]

    assert net.add(pool, args="IP=10.0.0.7") == ["10.0.0.7/24"]
    assert net.add(pool, id="two", args="IP=10.0.0.7") == (
        "failed to allocate for range 0: requested IP address 10.0.0.7 is not available in "
        "range set 10.0.0.5-10.0.0.9"
    )
    for outside in ("10.0.0.10", "10.0.0.4"):
        said = net.add(pool, id="two", args=f"IP={outside}")
        assert said == f"failed to allocate all requested IPs: {outside}"
    assert net.add([{"subnet": "10.0.0.0/24"}], id="two", args="IP=10.0.0.1") == (
        "failed to allocate for range 0: requested ip 10.0.0.1 is subnet's gateway"
    )


def test_excluded_addresses_are_never_given(net):
    pool = [{"subnet": "10.0.0.0/29", "exclude": ["10.0.0.2-10.0.0.3"]}]

    given = [net.add(pool, id=f"c{i}", exclude=["10.0.0.5"]) for i in range(2)]

    assert given == [["10.0.0.4/29"], ["10.0.0.6/29"]]
    assert "no IP addresses available" in net.add(pool, id="c9", exclude=["10.0.0.5"])
    said = net.add(pool, id="c9", exclude=["10.0.0.5"], args="IP=10.0.0.5")
    assert "requested ip 10.0.0.5 is excluded" in said


@pytest.mark.parametrize("content", [b"", b"\n", b"  "])
def test_an_empty_lease_blocks_nothing(net, content):
    """A crash of the reference between create and write, or a power failure, leaves one."""
    net.write("10.0.0.2", content)

    assert net.add(["10.0.0.0/30"]) == ["10.0.0.2/30"]
    assert net.read("10.0.0.2") == b"dummy\r\neth0"


def test_a_failed_add_gives_back_what_it_took(net):
    net.write("10.2.0.2", b"other\r\neth0")
    net.add(["10.1.0.0/24"], id="live")

    said = net.add(["10.1.0.0/24"], ["10.2.0.0/30"], id="new")

    assert "no IP addresses available" in said
    assert net.leases() == ["10.1.0.2", "10.2.0.2"]


def test_check(net):
    pool = ["10.1.2.0/24"]
    result = net.call("ADD", pool)
    net.call("CHECK", pool)
    assert net.reply.exit_code == 0
    net.call("CHECK", pool, more={"prevResult": result})
    assert net.reply.exit_code == 0

    net.write("10.1.2.2", b"other\r\neth0")
    answer = net.call("CHECK", pool, more={"prevResult": result})

    assert answer["msg"] == "host-local: Failed to find address added by container dummy"
    assert answer["details"] == f"no lease for 10.1.2.2 in {net.folder}"
    assert net.call("CHECK", pool)["code"] == 999


def test_del_takes_any_configuration(net):
    net.add(["10.1.2.0/24"])

    net.delete(["10.1.2.0/31"], routes="none", exclude=5)

    assert net.leases() == []
    assert b"ignored in the configuration" in net.reply.stderr


def test_status(net, tmp_path):
    net.call("STATUS", ["10.1.2.0/30"], version="1.1.0")
    assert net.reply.exit_code == 0
    assert not os.path.exists(net.folder)
    net.add(["10.1.2.0/30"])

    net.call("STATUS", ["10.1.2.0/30"], version="1.1.0")
    assert net.reply.exit_code == 0
    assert b"range set 0 is full: 10.1.2.1-10.1.2.2" in net.reply.stderr

    answer = net.call("STATUS", ["10.1.2.0/30"], version="1.1.0", statusFailsWhenFull=True)
    assert (answer["code"], answer["msg"]) == (50, "range set 0 is full: 10.1.2.1-10.1.2.2")


def test_status_when_leases_cannot_be_written(net):
    with open(f"{net.root}/file", "w") as file:
        file.write("x")

    answer = net.call("STATUS", ["10.1.2.0/30"], version="1.1.0", dataDir=f"{net.root}/file")

    assert answer["code"] == 50
    assert f"{net.root}/file is no directory" in answer["msg"]


def test_status_of_an_invalid_configuration(net):
    assert net.call("STATUS", ["10.1.2.0/31"], version="1.1.0")["code"] in {7, 50}


VALID = "cni.dev/valid-attachments"


def test_gc_with_a_list(net):
    pool = ["10.1.2.0/24"]
    for name in ("a", "b", "c"):
        net.add(pool, id=name)
    net.write("10.1.2.77", b"reference\r\neth0")
    net.write("10.1.2.78", b"b\r\neth1")

    listed = [{"containerID": "b", "ifname": "eth0"}]
    net.call("GC", pool, version="1.1.0", more={VALID: listed})

    assert net.reply.exit_code == 0
    assert net.leases() == ["10.1.2.3"]


def test_gc_without_a_list_takes_only_the_dead(net):
    pool = ["10.1.2.0/24"]
    net.add(pool, id="young")
    net.write("10.1.2.77", b"reference\r\neth0")
    net.call("GC", pool, version="1.1.0")

    assert net.leases() == ["10.1.2.2", "10.1.2.77"]


def index_of(net):
    return Index(Store(f"{net.root}/.cni-plugins/{net.name}"), net.name)


def as_of_another_boot(net, owner_id):
    index = index_of(net)
    owner = index.owner(owner_id, "eth0")
    assert owner is not None
    old = Witness(boot_id="another-boot", created=1.0)
    index.write_owner(Record(container_id=owner_id, ifname="eth0", ips=owner.ips, witness=old))
    header = index.header()
    assert header is not None
    index.write_header(type(header)("another-boot", header.mtime_ns))


def test_leases_of_another_boot_are_taken_back_by_the_first_add(net):
    pool = ["10.1.2.0/28"]
    names = [f"c{i}" for i in range(13)]
    for name in names:
        net.add(pool, id=name)
    assert "no IP addresses" in net.add(pool, id="one-too-many")
    for name in names:
        as_of_another_boot(net, name)

    assert len(net.add(pool, id="after-boot")) == 1

    assert len(net.leases()) == 1


def test_old_leases_of_the_reference_are_taken_back_too(net):
    net.write("10.1.2.2", b"reference\r\neth0")
    os.utime(f"{net.folder}/10.1.2.2", (1.0, 1.0))

    assert net.add(["10.1.2.0/30"]) == ["10.1.2.2/30"]


def test_young_leases_of_the_reference_stay(net):
    net.write("10.1.2.2", b"reference\r\neth0")

    assert "no IP addresses" in net.add(["10.1.2.0/30"])


def test_a_restarted_container_gets_its_address_back(net):
    net.add(["10.1.2.0/24"], id="other")
    assert net.add(["10.1.2.0/24"]) == ["10.1.2.3/24"]
    as_of_another_boot(net, "dummy")
    as_of_another_boot(net, "other")

    assert net.add(["10.1.2.0/24"]) == ["10.1.2.3/24"]


def test_an_index_that_is_lost_or_damaged_is_rebuilt(net):
    pool = ["10.1.2.0/24"]
    net.add(pool, id="a")
    for damage in ("header.json", "used/4-a01"):
        with open(f"{net.root}/.cni-plugins/{net.name}/{damage}", "wb") as file:
            file.write(b"\0garbage")
        assert len(net.add(pool, id=damage.replace("/", "-"))) == 1
    import shutil

    shutil.rmtree(f"{net.root}/.cni-plugins")
    assert net.add(pool, id="b") == ["10.1.2.5/24"]
    for name in ("a", "header.json", "used-4-a01", "b"):
        net.delete(pool, id=name)

    assert net.leases() == []


def test_what_another_suite_writes_and_removes_is_seen(net):
    pool = ["10.1.2.0/24"]
    net.add(pool, id="a")
    net.write("10.1.2.3", b"theirs\r\neth0")
    os.unlink(f"{net.folder}/10.1.2.2")

    assert net.add(pool, id="b") == ["10.1.2.4/24"]
    assert net.add(pool, id="a") == ["10.1.2.5/24"]
    net.delete(pool, id="theirs")

    assert net.leases() == ["10.1.2.4", "10.1.2.5"]


def test_a_64_pool_of_ipv6_is_no_problem(net):
    began = time.monotonic()
    given = [net.add(["fd00::/64"], id=f"c{i}") for i in range(20)]

    assert given[19] == ["fd00::15/64"]
    assert time.monotonic() - began < 10


@pytest.mark.parametrize("name", ["../evil", "a/b", "..", ""])
def test_a_network_name_cannot_leave_the_directory(tmp_path, name):
    network = Network(tmp_path, name)

    assert network.call("ADD", ["10.1.2.0/24"])["code"] == 7
    assert os.listdir(tmp_path) == []
