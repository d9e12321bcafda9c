"""`order-rail flash-sale`: many orders in a short time, all accepted, while payments go at the pace that they can.

`crowd.py` is the customers, a process of its own; `sell.py` starts it, on any running system.
"""

from control_room.flash_sale.sell import Progress, SaleFailed, SaleResult, sell

__all__ = ["Progress", "SaleFailed", "SaleResult", "sell"]
