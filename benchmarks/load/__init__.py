"""Load on a contender, each kind a program of its own, so that what it costs is seen apart from what it measures."""
