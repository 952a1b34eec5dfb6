"""static: addresses written in the configuration."""
