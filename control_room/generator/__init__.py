"""`order-rail new`: writes a service into a checkout, by copying a living example of `tests/examples`."""
