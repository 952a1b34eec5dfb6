"""The CNI protocol as pure functions and values: no I/O happens below this package."""
