"""Works on any running system, native or in containers: audit, dead letters, topology, order history."""
