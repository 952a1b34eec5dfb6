"""A DHCP server that does as it is told, for what a proper one never does; runs in a namespace.

``python -m tests.kit.dhcp_server '{"address": "192.168.1.5", …}'``; every message it gets is a line
of JSON on its stdout.  The packets are made here by hand, not with the code under test.
"""

from __future__ import annotations

import json
import socket
import struct
import sys
from ipaddress import IPv4Address
from typing import Any

COOKIE = b"\x63\x82\x53\x63"
TYPES = {1: "DISCOVER", 3: "REQUEST", 4: "DECLINE", 7: "RELEASE"}
OFFER, ACK, NAK = 2, 5, 6
DEFAULTS: dict[str, Any] = {
    "interface": "eth0",
    "server": "192.168.1.1",
    "address": "192.168.1.5",
    "mask": "ffffff00",
    "lease_s": 3600,
    "options": {},
    "noise": [],
    "offers": True,
    "acks": 10**9,
    "nak_from": 10**9,
}
"""``noise``: kinds of NOISE sent before each proper answer; ``acks``: so many, then silence;
``nak_from``: NAKs from that ACK on; ``options``: hexadecimal values by code, null for none."""


def checksum(data: bytes) -> int:
    """RFC 1071."""
    if len(data) % 2:
        data += b"\0"
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    total = (total >> 16) + (total & 0xFFFF)
    return ~(total + (total >> 16)) & 0xFFFF


def frame(mac: bytes, source_mac: bytes, server: str, payload: bytes) -> bytes:
    """Ethernet, IPv4 and UDP around a message to everybody."""
    ip = struct.pack("!BBHHHBBH", 0x45, 0, 28 + len(payload), 0, 0, 64, 17, 0)
    ip += IPv4Address(server).packed + b"\xff" * 4
    ip = ip[:10] + struct.pack("!H", checksum(ip)) + ip[12:]
    udp = struct.pack("!HHHH", 67, 68, 8 + len(payload), 0)
    return mac + source_mac + b"\x08\x00" + ip + udp + payload


def options_of(payload: bytes) -> dict[int, bytes]:
    """The options of a message."""
    found: dict[int, bytes] = {}
    at = 240
    while at < len(payload) and payload[at] != 255:
        if payload[at] == 0:
            at += 1
            continue
        size = payload[at + 1]
        found[payload[at]] = payload[at + 2 : at + 2 + size]
        at += 2 + size
    return found


class Server:
    """One address for everybody who asks."""

    def __init__(self, told: dict[str, Any]) -> None:
        self.told = DEFAULTS | told
        self.socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0800))
        self.socket.bind((self.told["interface"], 0x0800))
        self.mac = self.socket.getsockname()[4]
        self.acked = 0

    def serve(self) -> None:
        """Until killed."""
        print(json.dumps({"type": "ready"}), flush=True)
        while True:
            packet = self.socket.recv(65535)
            head = 14 + (packet[14] & 0xF) * 4
            if packet[23] == 17 and packet[head + 2 : head + 4] == b"\0\x43":
                self.answer(packet, packet[head + 8 :])

    def answer(self, packet: bytes, payload: bytes) -> None:
        """Log a message and answer it."""
        options = options_of(payload)
        kind = TYPES.get(options[53][0], "?")
        said = {
            "type": kind,
            "to": packet[:6].hex(":"),
            "mac": payload[28:34].hex(":"),
            "source": str(IPv4Address(packet[26:30])),
            "destination": str(IPv4Address(packet[30:34])),
            "ciaddr": str(IPv4Address(payload[12:16])),
            "broadcast": bool(payload[10] & 0x80),
            "xid": payload[4:8].hex(),
            "codes": list(options),
            "options": {str(code): value.hex() for code, value in options.items()},
        }
        print(json.dumps(said), flush=True)
        if kind == "DISCOVER" and self.told["offers"]:
            self.send(OFFER, payload)
        elif kind == "REQUEST":
            if 54 in options and options[54] != IPv4Address(self.told["server"]).packed:
                return
            self.acked += 1
            if self.acked >= self.told["nak_from"]:
                self.send(NAK, payload)
            elif self.acked <= self.told["acks"]:
                self.send(ACK, payload)

    def send(self, kind: int, request: bytes) -> None:
        """An answer, with the noise before it."""
        for name in self.told["noise"]:
            payload = getattr(self, name)(kind, request)
            mac = b"\xff" * 6
            self.socket.send(frame(mac, self.mac, self.told["server"], payload))
        payload = self.message(kind, request)
        self.socket.send(frame(b"\xff" * 6, self.mac, self.told["server"], payload))

    def message(self, kind: int, request: bytes, **over: Any) -> bytes:
        """A proper message, but for what is asked otherwise."""
        told = {**self.told, **over}
        address = b"\0" * 4 if kind == NAK else IPv4Address(told["address"]).packed
        fixed = struct.pack("!BBBB", told.get("op", 2), 1, 6, 0)
        fixed += told.get("xid", request[4:8]) + b"\0" * 4 + request[12:16] + address + b"\0" * 8
        fixed += told.get("mac", request[28:34]) + b"\0" * 10 + b"\0" * 192
        options: dict[int, bytes] = {53: bytes([kind]), 54: IPv4Address(told["server"]).packed}
        if kind != NAK:
            options[51] = told["lease_s"].to_bytes(4, "big")
            options[1] = bytes.fromhex(told["mask"])
            options[3] = IPv4Address(self.told["server"]).packed
        for code, value in told["options"].items():
            options.pop(int(code), None)
            if value is not None and kind != NAK:
                options[int(code)] = bytes.fromhex(value)
        body = b"".join(bytes([c, len(v)]) + v for c, v in options.items() if len(v) < 256)
        return fixed + told.get("cookie", COOKIE) + body + told.get("end", b"\xff")

    # --- noise: every one names another address, so that taking it shows -----------------------

    def foreign_transaction(self, kind: int, request: bytes) -> bytes:
        """Another client's transaction."""
        return self.message(kind, request, xid=b"\1\2\3\4", address="192.168.1.66")

    def foreign_station(self, kind: int, request: bytes) -> bytes:
        """For another hardware address."""
        return self.message(kind, request, mac=b"\2\0\0\0\0\1", address="192.168.1.67")

    def foreign_server(self, kind: int, request: bytes) -> bytes:
        """An ACK of a server that was not asked; an OFFER without a server's name."""
        if kind == OFFER:
            return self.message(kind, request, address="192.168.1.68", options={"54": None})
        return self.message(kind, request, address="192.168.1.68", server="192.168.1.9")

    def truncated(self, kind: int, request: bytes) -> bytes:
        """Cut within the fixed part."""
        return self.message(kind, request, address="192.168.1.69")[:200]

    def endless_option(self, kind: int, request: bytes) -> bytes:
        """The last option goes beyond the end."""
        return self.message(kind, request, address="192.168.1.70", end=b"\x0c\xf0ab")

    def no_cookie(self, kind: int, request: bytes) -> bytes:
        """BOOTP, not DHCP."""
        return self.message(kind, request, address="192.168.1.71", cookie=b"\0" * 4)

    def a_request(self, kind: int, request: bytes) -> bytes:
        """Another client's message."""
        return self.message(kind, request, address="192.168.1.72", op=1)

    def no_host(self, kind: int, request: bytes) -> bytes:
        """An address that no host may have."""
        return self.message(kind, request, address="224.0.0.9")

    def garbage(self, _kind: int, _request: bytes) -> bytes:
        """No message at all."""
        return bytes(range(256)) * 2


if __name__ == "__main__":
    Server(json.loads(sys.argv[1])).serve()
