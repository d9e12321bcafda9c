"""`order-rail tour`: real orders on a running system, followed live, and audited at the end."""
