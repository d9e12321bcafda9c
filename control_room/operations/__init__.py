"""Works on any running system, native or in containers: dead letters, topology, databases, backups, pruning."""
