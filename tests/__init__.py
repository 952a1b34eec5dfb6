"""The tests; tools/run-tests runs all tiers."""
