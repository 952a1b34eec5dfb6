"""vlan: an IEEE 802.1Q VLAN of a link of the host."""
