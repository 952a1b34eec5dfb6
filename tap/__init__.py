"""tap: a TAP device, for a virtual machine in the container."""
