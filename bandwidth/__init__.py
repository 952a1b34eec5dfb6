"""bandwidth: limits on what a container receives and sends."""
