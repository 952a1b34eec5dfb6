"""tuning: sysctls and attributes of the container's interface."""
