"""ipMasq: traffic that leaves a container's subnet takes the host's address.

What stands in the kernel is :mod:`.masquerade_rules`'; applying it is one transaction a family.
"""

from __future__ import annotations

from cni_plugins import masquerade_rules as rules
from cni_plugins.errors import CniError, ConfigError, ExecError
from cni_plugins.frozen import Frozen
from cni_plugins.host.iptables import Iptables, collect
from cni_plugins.host.nftables import Nftables, NotThere
from cni_plugins.masquerade_rules import Owner
from cni_plugins.scopes import cached_property, suppress
from cni_plugins.undo import Cleanup

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from contextlib import AbstractContextManager

    from cni_plugins.host.command import Runner
    from cni_plugins.host.iptables import Change
    from cni_plugins.host.nftables import Change as NftablesChange
    from cni_plugins.protocol.addresses import Network

IPTABLES, NFTABLES = "iptables", "nftables"
BACKENDS = (IPTABLES, NFTABLES)
_LIST_ATTEMPTS = 5


class Tools:
    """The firewall tools of the node."""

    def __init__(self, runner: Runner) -> None:
        self.runner = runner

    @cached_property
    def iptables(self) -> Iptables:
        """Iptables and ip6tables."""
        return Iptables(self.runner)

    @cached_property
    def nftables(self) -> Nftables:
        """Nft."""
        return Nftables(self.runner)


class Applied(Frozen, kw_only=False):
    """The backend that was used, and why."""

    backend: str
    reason: str


def has_tool(tools: Tools, backend: str) -> bool:
    """Whether the node has the tool of a backend; of any for ""."""
    installed = {IPTABLES: tools.iptables.is_installed(), NFTABLES: tools.nftables.is_installed()}
    return installed[backend] if backend else any(installed.values())


def choose(tools: Tools, backend: str) -> Applied:
    """The backend for a configuration that may leave it open.

    Raises:
        ConfigError: the node has none of those allowed.
    """
    if backend:
        if not has_tool(tools, backend):
            raise ConfigError(
                "ipMasqBackend",
                f"{backend}: its tool is not installed",
                f"searched {tools.runner.search_path}",
            )
        return Applied(backend, "the configuration names it")
    if tools.iptables.is_installed():
        return Applied(IPTABLES, "iptables-restore is installed")
    if tools.nftables.is_installed():
        return Applied(NFTABLES, "iptables-restore is not installed, nft is")
    raise ConfigError(
        "ipMasq",
        "neither iptables-restore nor nft is installed",
        f"searched {tools.runner.search_path}",
    )


def apply(tools: Tools, owner: Owner, ips: tuple[Network, ...], *, backend: str) -> Applied:
    """Masquerade what comes from ``ips``.

    Raises:
        CniError: nothing was changed in the family or table that failed.
    """
    return Addition(tools, owner, ips, backend=backend).finish()


class Addition:
    """An attachment's rules on their way in: begun here, so that the caller can do more meanwhile.

    Args:
        tools: the firewall tools.
        owner: the attachment.
        ips: what is to be masqueraded comes from them.
        backend: as configured; without one nftables steps in for an iptables that does not work.

    Raises:
        ConfigError: the node has none of the backends allowed.
    """

    def __init__(
        self, tools: Tools, owner: Owner, ips: tuple[Network, ...], *, backend: str
    ) -> None:
        self._tools = tools
        self._owner = owner
        self._backend = backend
        self._ips = ips
        self._chosen = choose(tools, backend)
        self._plans: dict[int, tuple[str, ...]] = {}
        self._started: dict[int, Callable[[], object]] = {}
        if self._chosen.backend == NFTABLES:
            self._started[0] = tools.nftables.start(rules.nftables_plan(owner, ips)).finish
            return
        for family in _families(ips):
            plan = self._plans[family] = rules.iptables_plan(owner, ips, family)
            whole = (f"-N {owner.chain}", *plan)
            self._started[family] = tools.iptables.start(family, "nat", whole).finish

    def finish(self) -> Applied:
        """Wait for the tools' end, and do what is left to be done.

        Raises:
            CniError: nothing was changed in the family or table that failed.
        """
        refused = self.wait()
        if self._chosen.backend == NFTABLES:
            for refusal in refused.values():
                raise refusal
            return self._chosen
        try:
            self._finish_iptables(refused)
        except ExecError as e:
            if self._backend or not self._tools.nftables.is_installed():
                raise
            Removal(self._tools, self._owner, backends=(IPTABLES,), ips=self._ips).finish()
            self._tools.nftables.apply(rules.nftables_plan(self._owner, self._ips))
            return Applied(NFTABLES, f"iptables does not work: {e}")
        return self._chosen

    def wait(self) -> dict[int, ExecError]:
        """Wait for the tools' end; the families that refused, and why.

        Raises:
            Busy: another program holds the xtables lock.
        """
        started, self._started = self._started, {}
        answers = collect(started)
        return {f: answer for f, answer in answers.items() if isinstance(answer, ExecError)}

    def _finish_iptables(self, refused: dict[int, ExecError]) -> None:
        def lacking(family: int, present: Sequence[str]) -> list[str]:
            # the chain is there: of another attachment of this container, or of an ADD that died
            if not any(rules.declares(line, self._owner.chain) for line in present):
                raise refused[family]
            return [rule for rule in self._plans[family] if rule not in present]

        self._tools.iptables.revise("nat", refused, lacking)


class Removal:
    """An attachment's rules on their way out: begun here, so that the caller can do more meanwhile.

    Args:
        tools: the firewall tools.
        owner: the attachment.
        backends: where to look.
        ips: its addresses; without them every jump to the container's chain goes, also that of
            another attachment of the same container to the same network.
        noted: the journal says that these rules were made.
    """

    def __init__(
        self,
        tools: Tools,
        owner: Owner,
        *,
        backends: tuple[str, ...] = BACKENDS,
        ips: tuple[Network, ...] = (),
        noted: bool = False,
    ) -> None:
        self._tools = tools
        self._owner = owner
        self._backends = backends
        self._ips = ips
        self._started: dict[int, Change] = {}
        self._started_nftables: NftablesChange | None = None
        if noted and IPTABLES in backends:
            self._started = {
                family: tools.iptables.start(family, "nat", rules.noted_removal(owner, ips, family))
                for family in _families(ips)
            }
        if noted and NFTABLES in backends:
            with suppress(CniError):  # the end tries again, and says why it does not work
                self._started_nftables = _start_nftables(tools.nftables, self._is_doomed)

    def finish(self) -> None:
        """Remove what is left; repeatable.

        Where the transaction that was started is refused, because something is gone or another
        attachment of the container has come, a look tells what is there.

        Raises:
            CniError: not everything could be removed.
        """
        with Cleanup() as cleanup:
            if IPTABLES in self._backends:
                cleanup.attempt(IPTABLES, self._finish_iptables)
            if NFTABLES in self._backends:
                cleanup.attempt(NFTABLES, self._finish_nftables)

    def _finish_iptables(self) -> None:
        left: tuple[int, ...] = _families(self._ips) or (4, 6)
        if self._started:
            answers = collect({f: change.finish for f, change in self._started.items()})
            left = tuple(f for f, answer in answers.items() if isinstance(answer, ExecError))
            self._started = {}

        def commands(_family: int, present: Sequence[str]) -> list[str]:
            return rules.removal(present, self._owner, self._ips)

        self._tools.iptables.revise("nat", left, commands)

    def _is_doomed(self, comment: str) -> bool:
        return comment.startswith(self._owner.mark)

    def _finish_nftables(self) -> None:
        _discard_nftables(self._tools.nftables, self._is_doomed, self._started_nftables)
        self._started_nftables = None


def _discard_nftables(
    nftables: Nftables, is_doomed: Callable[[str], bool], started: NftablesChange | None = None
) -> None:
    for attempt in range(_LIST_ATTEMPTS):
        change = started or _start_nftables(nftables, is_doomed)
        if change is None:
            return
        try:
            change.finish()
        except NotThere:  # another process removed one of them since the listing
            if attempt == _LIST_ATTEMPTS - 1:
                raise
            started = None
        else:
            return


def _start_nftables(nftables: Nftables, is_doomed: Callable[[str], bool]) -> NftablesChange | None:
    """Begin to delete the rules with such comments; None when there are none."""
    chain = {"family": "inet", "table": rules.TABLE, "chain": rules.CHECKS}
    handles = [
        rule["handle"]
        for rule in nftables.rules("inet", rules.TABLE, rules.CHECKS)
        if is_doomed(rule.get("comment", ""))
    ]
    if not handles:
        return None
    return nftables.start([{"delete": {"rule": {**chain, "handle": h}}} for h in handles])


def looking(tools: Tools, owner: Owner, families: Iterable[int]) -> AbstractContextManager[None]:
    """The look at iptables' rules for :func:`missing` is begun; the block does something before."""
    return tools.iptables.looking("nat", _chains(owner, families))


def _chains(owner: Owner, families: Iterable[int]) -> dict[int, tuple[str, ...]]:
    return dict.fromkeys(families, (owner.chain, "POSTROUTING"))


def missing(tools: Tools, owner: Owner, ips: tuple[Network, ...], *, backend: str) -> list[str]:
    """What CHECK finds missing, one line for each rule."""
    if choose(tools, backend).backend == NFTABLES:
        return _missing_nftables(tools.nftables, owner, ips)
    return [
        f"masquerade rule is missing in table nat: {rule}"
        for family, present in tools.iptables.chains("nat", _chains(owner, _families(ips))).items()
        for rule in rules.iptables_plan(owner, ips, family)
        if rule not in present
    ]


def _missing_nftables(nftables: Nftables, owner: Owner, ips: tuple[Network, ...]) -> list[str]:
    own = [
        rule["expr"]
        for rule in nftables.rules("inet", rules.TABLE, rules.CHECKS)
        if rule.get("comment", "").startswith(owner.mark)
    ]
    lacking = [
        f"masquerade rule for {ip} is missing in {rules.TABLE} {rules.CHECKS}"
        for ip in ips
        if rules.nftables_rule(owner, ip)["expr"] not in own
    ]
    present = [rule["expr"] for rule in nftables.rules("inet", rules.TABLE, rules.POSTROUTING)]
    if [rule["expr"] for rule in rules.postrouting_rules()] != present:
        lacking.append(f"the rules of {rules.TABLE} {rules.POSTROUTING} were changed")
    return lacking


def gc(tools: Tools, network: str, keep: frozenset[tuple[str, str]]) -> None:
    """Remove the rules of a network's attachments that are not to be kept.

    Args:
        tools: the firewall tools.
        network: only rules that name it are looked at.
        keep: pairs of container id and ifname.
    """
    marks = {Owner(network, container_id, ifname).mark for container_id, ifname in keep}
    ours = f"{rules.hash16(network)}-"
    _discard_nftables(
        tools.nftables,
        lambda comment: comment.startswith(ours) and comment.partition(",")[0] not in marks,
    )
    chains = {Owner(network, container_id, "").chain for container_id, _ in keep}

    def commands(_family: int, present: Sequence[str]) -> list[str]:
        return rules.collection(present, network, chains)

    tools.iptables.revise("nat", (4, 6), commands)


def _families(ips: tuple[Network, ...]) -> tuple[int, ...]:
    return tuple(sorted({ip.family for ip in ips}))
