"""Every test here has a throw-away node."""

from tests.kit.fixtures import node, pod

__all__ = ["node", "pod"]
