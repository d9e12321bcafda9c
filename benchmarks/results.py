"""What was measured: a list of values for each quantity of each contender, one value a round; medians and spread."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any, Self


@dataclass(frozen=True, slots=True)
class Quantity:
    """What a value is of: `accept` of `celery`, the `rate` in `orders/s`."""

    measurement: str
    contender: str
    name: str
    unit: str


@dataclass
class Results:
    """All values so far. `machine` is where they are from."""

    machine: dict[str, Any]
    values: dict[Quantity, list[float]] = field(default_factory=dict)

    def add(self, measurement: str, contender: str, name: str, unit: str, value: float) -> None:
        """One value more, of one round."""
        self.values.setdefault(Quantity(measurement, contender, name, unit), []).append(value)

    def of(self, measurement: str) -> dict[Quantity, list[float]]:
        """Everything of one measurement, in the order in which it was first measured."""
        return {quantity: values for quantity, values in self.values.items() if quantity.measurement == measurement}

    def median(self, measurement: str, contender: str, name: str) -> float | None:
        """None where it was not measured."""
        for quantity, values in self.of(measurement).items():
            if (quantity.contender, quantity.name) == (contender, name):
                return median(values)
        return None

    def medians(self, measurement: str, name: str) -> dict[str, float]:
        """By contender."""
        return {
            quantity.contender: median(values)
            for quantity, values in self.of(measurement).items()
            if quantity.name == name
        }

    @property
    def measurements(self) -> list[str]:
        return list(dict.fromkeys(quantity.measurement for quantity in self.values))

    def as_json(self) -> dict[str, Any]:
        return {"machine": self.machine, "quantities": list(self._rows())}

    def _rows(self) -> Iterator[dict[str, Any]]:
        for quantity, values in self.values.items():
            yield {
                "measurement": quantity.measurement,
                "contender": quantity.contender,
                "quantity": quantity.name,
                "unit": quantity.unit,
                "median": median(values),
                "lowest": min(values),
                "highest": max(values),
                "values": values,
            }

    @classmethod
    def read(cls, path: Path) -> Self:
        """What `as_json` gave, from a file."""
        saved = json.loads(path.read_text())
        results = cls(saved["machine"])
        for row in saved["quantities"]:
            quantity = Quantity(row["measurement"], row["contender"], row["quantity"], row["unit"])
            results.values[quantity] = row["values"]
        return results
