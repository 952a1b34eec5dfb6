"""loopback: bring the container's own interface up."""
