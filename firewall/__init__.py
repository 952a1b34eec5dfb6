"""firewall: let a container's traffic through the host, and keep other traffic away from it."""
