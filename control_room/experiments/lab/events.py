"""The events of the lab's shop: what was ordered goes to the kitchen, or to the courier company."""

from typing import Literal

from shared.events import Event, Value


class Ordered(Value):
    """`number`: the orders are numbered from 1."""

    number: int


class KitchenOrdered(Event):
    """An order to be eaten here."""

    type: Literal["lab.kitchen.v1"] = "lab.kitchen.v1"
    data: Ordered


class CourierOrdered(Event):
    """An order to be brought, by an outside company whose system may be down."""

    type: Literal["lab.courier.v1"] = "lab.courier.v1"
    data: Ordered
