"""What every service needs, and nothing that knows a service."""
