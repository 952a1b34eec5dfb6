"""macvlan: a link of its own MAC address on a link of the host."""
