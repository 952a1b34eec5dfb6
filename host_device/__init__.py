"""host-device: a device of the host, given to the container."""
