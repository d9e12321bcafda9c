"""`order-rail new`: writes code, by copying what lives here or in `tests/examples`."""
