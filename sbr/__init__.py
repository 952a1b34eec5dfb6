"""sbr: source based routing: each interface answers through its own gateway."""
