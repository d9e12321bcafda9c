"""`order-rail flash-sale`: many orders in a short time, all accepted, while payments go at the pace that they can.

`crowd.py` is the customers, a process of its own, and `sell.py` sends them to any running system; `watch.py` looks at
the system meanwhile, and `rail.py` says what follows from that; `run.py` runs it all, `display.py` shows it,
`report.py` and `chart.py` tell what came of it, `command.py` is the command.
"""

from control_room.experiments.flash_sale.sell import Progress, SaleFailed, SaleResult, sell

__all__ = ["Progress", "SaleFailed", "SaleResult", "sell"]
