"""The shared library behind every plugin of the suite."""
