"""ptp: a veth pair between host and container, without a bridge."""
