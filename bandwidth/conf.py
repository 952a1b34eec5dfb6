"""Configuration of bandwidth."""

from __future__ import annotations

from bandwidth.rates import Limit, validate
from cni_plugins import chain
from cni_plugins.errors import ConfigError
from cni_plugins.frozen import Frozen, replace
from cni_plugins.protocol.config import flag, integer, key, read, record
from cni_plugins.protocol.netconf import NetConf

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from cni_plugins.context import Context
    from cni_plugins.protocol.result import Result

_bits = integer(0, 2**64 - 1)


class Limits(Frozen):
    """Rates in bits a second and bursts in bits; ingress is towards the container."""

    ingress_rate: int | None = key("ingressRate", _bits, default=None)
    ingress_burst: int | None = key("ingressBurst", _bits, default=None)
    egress_rate: int | None = key("egressRate", _bits, default=None)
    egress_burst: int | None = key("egressBurst", _bits, default=None)

    @property
    def is_given(self) -> bool:
        """Whether any of the four keys is there, be it 0."""
        given = (self.ingress_rate, self.ingress_burst, self.egress_rate, self.egress_burst)
        return any(number is not None for number in given)


class _Runtime(Frozen):
    bandwidth: Limits = key("bandwidth", record(Limits), default=Limits())


class BandwidthConf(NetConf):
    """``ingress`` and ``egress`` are what is to be limited, None for no limit."""

    runtime_config: _Runtime = key("runtimeConfig", record(_Runtime), default=_Runtime())
    clamp_burst: bool = key(
        "clampBurst", flag, default=False, doc="a burst is at most what the rate sends in a second"
    )

    ingress: Limit | None = None
    egress: Limit | None = None
    chained: Result | None = None


def parse(ctx: Context, document: dict[str, Any]) -> BandwidthConf:
    """ADD, CHECK, STATUS.  Limits of the list, whichever, hide those of the runtime.

    Raises:
        ConfigError: with the JSON path.
    """
    conf = read(BandwidthConf, document)
    own = read(Limits, document)
    limits, path = own, ""
    if not own.is_given:
        limits, path = conf.runtime_config.bandwidth, "runtimeConfig.bandwidth."
    ingress = _limit(ctx, conf, limits.ingress_rate, limits.ingress_burst, f"{path}ingress")
    egress = _limit(ctx, conf, limits.egress_rate, limits.egress_burst, f"{path}egress")
    conf = replace(conf, ingress=ingress, egress=egress)
    if ctx.command == "STATUS":
        return conf
    text = f"must be called as {'a ' if ctx.command == 'CHECK' else ''}chained plugin"
    return replace(conf, chained=chain.previous(ctx, conf, text))


def _limit(
    ctx: Context, conf: BandwidthConf, rate: int | None, burst: int | None, path: str
) -> Limit | None:
    problem = validate(rate or 0, burst or 0)
    if problem:
        raise ConfigError("", problem, f"{path}Rate, {path}Burst: bits a second, bits")
    if not rate or not burst:
        return None
    limit = Limit(rate, burst)
    if limit.exceeds_a_second and conf.clamp_burst:
        return limit.clamped()
    if limit.exceeds_a_second and ctx.command == "ADD":
        ctx.warn(
            f"{path}Burst: {burst} bits are more than {path}Rate sends in a second: the limit "
            "is not felt before they are used up; clampBurst makes it one second's worth"
        )
    return limit


def parse_cleanup(ctx: Context, document: dict[str, Any]) -> BandwidthConf:
    """DEL, GC: the limits do not matter."""
    kept = {k: v for k, v in document.items() if k.lower() != "runtimeconfig"}
    return read(BandwidthConf, kept, forgive=ctx.forgive)
