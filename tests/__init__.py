"""The tests: one folder per package, and stories through real nodes."""
