"""In line or through a queue: the same orders to a shop that does all in one request, and to Order Rail."""
