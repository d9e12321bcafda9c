"""What must be true of the books."""
