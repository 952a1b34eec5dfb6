"""resolv.conf(5), as far as a result's dns has room for it; pure."""

from __future__ import annotations

from cni_plugins.protocol.result import DNS


def parse(content: str) -> DNS:
    """Read the file: nameservers, the last domain, all search domains and options."""
    nameservers: list[str] = []
    search: list[str] = []
    options: list[str] = []
    domain = ""
    for line in content.splitlines():
        words = line.split()
        if len(words) < 2 or words[0][0] in "#;":
            continue
        match words[0]:
            case "nameserver":
                nameservers.append(words[1])
            case "domain":
                domain = words[1]
            case "search":
                search += words[1:]
            case "options":
                options += words[1:]
            case _:
                continue
    return DNS(
        nameservers=tuple(nameservers),
        domain=domain,
        search=tuple(search),
        options=tuple(options),
    )
