"""vrf: the interface in a virtual routing and forwarding domain."""
