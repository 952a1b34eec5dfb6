"""flannel: another plugin, with the subnet that flannel gave to this node."""
