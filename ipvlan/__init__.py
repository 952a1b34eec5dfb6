"""ipvlan: a link with the MAC address of the host's link it stands on."""
