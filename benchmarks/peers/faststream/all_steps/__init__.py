"""FastStream, all that Order Rail does: a topic exchange, and a queue for each kind of work that is bound to it."""
