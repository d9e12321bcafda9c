"""`order-rail new`: writes into a checkout, by copying what lives there or in `tests/examples`."""
