"""`order-rail flash-sale`: many orders in a short time, all accepted, while payments go at the pace that they can.

`customers.py` places the orders, as a process of its own, and `sell.py` runs it on any running system; `run.py` is the
whole experiment, and `rail.py` derives rates and waits from what the system counts meanwhile.
"""

from control_room.experiments.flash_sale.sell import SaleFailed, sell

__all__ = ["SaleFailed", "sell"]
