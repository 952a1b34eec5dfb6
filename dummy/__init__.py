"""dummy: a link that drops what is sent."""
