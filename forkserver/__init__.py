"""The warm process: it has everything imported, and forks a child for each call of a launcher."""
