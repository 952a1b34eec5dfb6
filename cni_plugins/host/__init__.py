"""Adapters, one per subsystem of the node; each is the only importer of its library or tool."""
