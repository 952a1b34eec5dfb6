"""dhcp: addresses from a DHCP server, leased and renewed by the daemon of dhcp_daemon."""
