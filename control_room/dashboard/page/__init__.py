"""The control room's page: what happens in a running system, live, for one viewer or many.

`room.py` holds what all viewers share, `server.py` serves it, `access.py` says who may change something, `layout.py`
puts the panels together: one file each. A panel reads the observer's latest snapshot and asks nobody itself, so that
fifty viewers cost the system no more than one. `theme.py` and `page.css` are how it looks.
"""
