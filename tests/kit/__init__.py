"""What the tests stand on: throw-away nodes, requests, snapshots, faults."""
