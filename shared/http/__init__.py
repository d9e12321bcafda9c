"""What the HTTP side of every service has in common: errors, the server, and the operators' audit stream."""
