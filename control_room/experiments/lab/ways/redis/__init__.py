"""The same lesson on Redis. What a file has not is in `stream.py`, the right way."""
