"""The result of an ADD in its newest form (spec 1.1.0); :mod:`.versions` speaks the older ones.

Source: CNI spec 1.1.0, section "ADD Success", and pkg/types/100 of containernetworking/cni.
"""

from __future__ import annotations

from cni_plugins.frozen import Frozen, fresh, replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cni_plugins.protocol.addresses import Address, Network


class Interface(Frozen):
    """One interface an attachment made or changed; ``sandbox`` is "" for the host's."""

    name: str
    mac: str = ""
    mtu: int = 0
    sandbox: str = ""
    socket_path: str = ""
    pci_id: str = ""


class IP(Frozen):
    """An address given out; ``interface`` is an index into :attr:`Result.interfaces`."""

    address: Network
    gateway: Address | None = None
    interface: int | None = None


class Route(Frozen):
    """A route in the container; ``dst`` keeps its host bits, ``gw`` None means the IP's gateway.

    ``mtu`` and ``advmss`` are bytes; ``table`` and ``scope`` are numbers, None when unset.
    """

    dst: Network
    gw: Address | None = None
    mtu: int = 0
    advmss: int = 0
    priority: int = 0
    table: int | None = None
    scope: int | None = None


class DNS(Frozen):
    """Resolver settings for the container."""

    nameservers: tuple[str, ...] = ()
    domain: str = ""
    search: tuple[str, ...] = ()
    options: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.nameservers or self.domain or self.search or self.options)


class Result(Frozen):
    """What an ADD answers; printed in the configuration's version."""

    interfaces: tuple[Interface, ...] = ()
    ips: tuple[IP, ...] = ()
    routes: tuple[Route, ...] = ()
    dns: DNS = fresh(DNS)

    def with_interfaces(self, *interfaces: Interface, ips_on: int | None = None) -> Result:
        """The same addresses, all of them on ``interfaces[ips_on]``."""
        ips = tuple(replace(ip, interface=ips_on) for ip in self.ips)
        return replace(self, interfaces=interfaces, ips=ips)
