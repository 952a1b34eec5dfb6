"""The facts of one call, and the handles it opens on the node.

A plugin gets everything it needs from its Context: it never looks at the process's environment,
streams or working directory.  Handles are opened when first asked for and closed together.
"""

from __future__ import annotations

import time

from cni_plugins import build_info
from cni_plugins.errors import NetnsError
from cni_plugins.frozen import replace
from cni_plugins.protocol import names
from cni_plugins.protocol.config import find
from cni_plugins.scopes import cached_property
from cni_plugins.undo import Undo

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any, Self, TypeVar

    from cni_plugins.background import Background
    from cni_plugins.deadline import Deadline
    from cni_plugins.delegate import Delegate
    from cni_plugins.errors import CniError
    from cni_plugins.host.command import Runner
    from cni_plugins.host.journal import Record
    from cni_plugins.host.links import Links
    from cni_plugins.host.netns import NetNS
    from cni_plugins.masquerade import Tools
    from cni_plugins.protocol.request import Call
    from cni_plugins.witness import Witness

    Handle = TypeVar("Handle", NetNS, Links, "Context")


class Context:
    """One verb of one plugin for one attachment.

    Args:
        plugin: the plugin's type.
        call: the validated CNI_* variables.
        document: the decoded network configuration.
        stdin: the bytes it was decoded from, which a delegate is given unchanged.
        env: the caller's environment.
        deadline: bounds everything that waits.
        log: lines for stderr.
        caller: pid of the runtime, 0 for this process's parent.
        background: takes what need not be over when the call is answered; None when all has to be.
    """

    def __init__(  # noqa: PLR0913 - the facts of a call, all of them needed
        self,
        *,
        plugin: str,
        call: Call,
        network: str,
        cni_version: str,
        document: dict[str, Any],
        stdin: bytes,
        env: Mapping[str, str],
        deadline: Deadline,
        log: list[str],
        caller: int = 0,
        background: Background | None = None,
    ) -> None:
        self.plugin = plugin
        self.call = call
        self.network = network
        self.cni_version = cni_version
        self.document = document
        self.stdin = stdin
        self.env = env
        self.deadline = deadline
        self.log = log
        self.caller = caller
        self.background = background
        self.undo = Undo(deadline.release)
        self.valid: frozenset[tuple[str, str]] | None = None
        """GC: the attachments the runtime calls valid; None when it gave no list."""
        self.journalled: frozenset[tuple[str, str]] = frozenset()
        """GC: the attachments of this plugin and network that the journal still knows."""
        self._record: Record | None = None
        self._find_record: Callable[[], Record | None] | None = None
        self.plan: dict[str, Any] = {}
        """What ADD notes in the journal about the objects it made."""
        self.note: Callable[[], None] = lambda: None
        """Writes ``plan`` to the journal at once: for what an ADD that is killed must leave."""
        self.lock: int | None = None
        """Descriptor of the attachment's lock, while a verb holds it."""
        self.began = time.time()
        self._handles: list[NetNS | Links | Context] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def close(self) -> None:
        """Close what the call opened."""
        while self._handles:
            self._handles.pop().close()

    def _kept(self, handle: Handle) -> Handle:
        """It is closed with the call."""
        self._handles.append(handle)
        return handle

    @property
    def record(self) -> Record | None:
        """The journal's entry of an earlier ADD, for DEL and CHECK."""
        if self._find_record is not None:
            self.record = self._find_record()
        return self._record

    @record.setter
    def record(self, record: Record | None) -> None:
        self._record = record
        self._find_record = None

    def find_record_by(self, find: Callable[[], Record | None]) -> None:
        """Where the entry comes from when it is asked for."""
        self._find_record = find

    @property
    def command(self) -> str:
        """The verb."""
        return self.call.command

    @property
    def container_id(self) -> str:
        """CNI_CONTAINERID."""
        return self.call.container_id

    @property
    def ifname(self) -> str:
        """CNI_IFNAME."""
        return self.call.ifname

    @property
    def netns_path(self) -> str:
        """CNI_NETNS as the caller wrote it, "" when not given."""
        return self.call.netns

    @property
    def cni_args(self) -> str:
        """CNI_ARGS."""
        return self.call.args

    @cached_property
    def attachment(self) -> str:
        """Name of the attachment's files."""
        return names.attachment(self.network, self.container_id, self.ifname)

    def warn(self, msg: str) -> None:
        """Tell the operator, on stderr, of something that does not stop the call."""
        self.log.append(msg)

    def forgive(self, fault: CniError) -> None:
        """Tell of a fault in the configuration that DEL or GC takes as "not set"."""
        self.warn(f"ignored in the configuration: {fault.msg}")

    @cached_property
    def netns(self) -> NetNS:
        """The container's namespace.

        Raises:
            NetnsError: CNI_NETNS leads to no network namespace.
        """
        from cni_plugins.host.netns import NetNS  # noqa: PLC0415 - loads ctypes

        return self._kept(NetNS.open(self.netns_path))

    def find_netns(self) -> NetNS | None:
        """The container's namespace, None when it is not given or gone."""
        if not self.netns_path:
            return None
        try:
            return self.netns
        except NetnsError as e:
            if e.gone:
                return None
            raise

    @cached_property
    def host(self) -> Links:
        """Rtnetlink in the namespace the plugin was called in."""
        from cni_plugins.host.links import Links  # noqa: PLC0415 - loads pyroute2

        return self._kept(Links.open(background=self.background))

    @cached_property
    def container(self) -> Links:
        """Rtnetlink in the container's namespace."""
        from cni_plugins.host.links import Links  # noqa: PLC0415 - loads pyroute2

        return self._kept(Links.open(self.netns, background=self.background))

    @cached_property
    def runner(self) -> Runner:
        """Runs the node's tools."""
        from cni_plugins.host.command import Runner  # noqa: PLC0415 - few calls run a tool

        return Runner(self.env, self.deadline, lock=self.lock)

    @cached_property
    def tools(self) -> Tools:
        """Iptables and nftables."""
        from cni_plugins.masquerade import Tools  # noqa: PLC0415 - few calls run a tool

        return Tools(self.runner)

    @cached_property
    def ipam(self) -> Delegate:
        """The IPAM plugin that the configuration names."""
        return self.delegate(self.document_ipam_type)

    @property
    def document_ipam_type(self) -> str:
        """``ipam.type`` of the configuration, "" for none; faulty ones count as none."""
        ipam = find(self.document, "ipam")
        plugin_type = find(ipam, "type") if isinstance(ipam, dict) else None
        return plugin_type if isinstance(plugin_type, str) else ""

    def delegate(self, plugin_type: str) -> Delegate:
        """Another plugin, to be called for this attachment with this configuration."""
        from cni_plugins.delegate import Delegate  # noqa: PLC0415

        return Delegate(self, plugin_type)

    def witness(self) -> Witness:
        """The circumstances of this call, by which its attachment's life is judged later."""
        from cni_plugins import liveness  # noqa: PLC0415

        return liveness.observe(self.netns_path, caller=self.caller)

    def nested(self, plugin: str, command: str) -> Context:
        """The context in which a delegate of ours runs within this call."""
        call = replace(self.call, command=command)
        nested = self._derived(plugin, call, self.document, self.stdin)
        nested.plan = dict(self.plan)
        return nested

    def with_config(self, call: Call, document: dict[str, Any], stdin: bytes) -> Context:
        """The same plugin called with an earlier call's variables and configuration."""
        return self._derived(self.plugin, call, document, stdin)

    def _derived(self, plugin: str, call: Call, document: dict[str, Any], stdin: bytes) -> Context:
        derived = Context(
            plugin=plugin,
            call=call,
            network=self.network,
            cni_version=self.cni_version,
            document=document,
            stdin=stdin,
            env=self.env,
            deadline=self.deadline,
            log=self.log,
            caller=self.caller,
            background=self.background,
        )
        derived.valid = self.valid
        derived.record = self.record
        derived.began = self.began
        derived.lock = self.lock
        return self._kept(derived)

    @property
    def build(self) -> str:
        """Id of the running build."""
        return build_info.build_id()
