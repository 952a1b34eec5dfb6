"""firewalld over D-Bus: sources of its zones, in the runtime configuration.

Source: firewalld.dbus(5), interface org.fedoraproject.FirewallD1.zone; D-Bus Specification.
"""

from __future__ import annotations

import os

from cni_plugins.errors import KernelError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from cni_plugins.deadline import Deadline
    from cni_plugins.protocol.addresses import Network

NAME = "org.fedoraproject.FirewallD1"
_PATH = "/org/fedoraproject/FirewallD1"
_ZONE = f"{NAME}.zone"
_SOCKET = "unix:path=/var/run/dbus/system_bus_socket"
_AUTH_S = 2.0
_ALREADY_THERE = ("ZONE_ALREADY_SET", "ALREADY_ENABLED")
_NOT_THERE = ("UNKNOWN_SOURCE", "NOT_ENABLED")


class Firewalld:
    """The node's firewalld.

    Args:
        env: the caller's environment, which may name the bus.
        deadline: of the call.
    """

    def __init__(self, env: Mapping[str, str], deadline: Deadline) -> None:
        self._bus = env.get("DBUS_SYSTEM_BUS_ADDRESS") or _SOCKET
        self._deadline = deadline

    def problem(self) -> str:
        """Why firewalld cannot be asked, "" when it can."""
        try:
            self._call("org.freedesktop.DBus", "/org/freedesktop/DBus", "GetNameOwner", NAME)
        except KernelError as e:
            return e.msg
        return ""

    def ensure_source(self, zone: str, network: Network) -> None:
        """Put an address into a zone.

        Raises:
            KernelError: firewalld cannot be reached, or refuses.
        """
        self._source("addSource", zone, network, _ALREADY_THERE)

    def discard_source(self, zone: str, network: Network) -> None:
        """Take an address out of a zone; one that is not in it needs nothing."""
        self._source("removeSource", zone, network, _NOT_THERE)

    def has_source(self, zone: str, network: Network) -> bool:
        """Whether an address is in a zone."""
        return bool(self._call(_ZONE, _PATH, "querySource", zone, str(network)))

    def _source(self, method: str, zone: str, network: Network, fine: tuple[str, ...]) -> None:
        try:
            self._call(_ZONE, _PATH, method, zone, str(network))
        except KernelError as e:
            if not any(text in e.msg for text in fine):
                raise

    def _call(self, interface: str, path: str, method: str, *words: str) -> Any:
        what = f"firewalld {method} {' '.join(words)}"
        place = self._bus.removeprefix("unix:path=")
        if place.startswith("/") and not os.path.exists(place.partition(",")[0]):
            raise KernelError(f"{what}: there is no bus {self._bus}")  # and jeepney is not loaded

        from jeepney import (  # noqa: PLC0415 - loads asyncio's relatives
            DBusAddress,
            DBusErrorResponse,
            new_method_call,
        )
        from jeepney.io.blocking import open_dbus_connection  # noqa: PLC0415
        from jeepney.wrappers import unwrap_msg  # noqa: PLC0415

        destination = NAME if interface == _ZONE else interface
        address = DBusAddress(path, bus_name=destination, interface=interface)
        message = new_method_call(address, method, "s" * len(words), words)
        try:
            timeout_s = min(_AUTH_S, self._deadline.remaining())
            with open_dbus_connection(self._bus, auth_timeout=timeout_s) as connection:
                reply = connection.send_and_get_reply(message, timeout=self._deadline.remaining())
            answer = unwrap_msg(reply)
        except DBusErrorResponse as e:
            said = " ".join(map(str, e.data)) if e.data else e.name
            raise KernelError(f"{what}: {said}") from e
        except (OSError, ValueError, RuntimeError) as e:
            raise KernelError(f"{what}: no answer from the bus {self._bus}: {e}") from e
        return answer[0] if answer else None
