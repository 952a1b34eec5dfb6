"""Measurements beside the reference suite's executables; see docs/performance.md."""
