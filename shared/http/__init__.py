"""The HTTP side of every service: the server and its limits, errors, and the calls that all services have."""
