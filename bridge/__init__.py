"""bridge: connect the container to a Linux bridge on the host."""
