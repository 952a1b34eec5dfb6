"""cnictl: the operator's command; it plays the runtime's role over /etc/cni/net.d."""
