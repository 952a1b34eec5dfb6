"""host-local: addresses from ranges on this node, kept in files."""
