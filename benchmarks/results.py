"""What was measured: a list of values for each quantity of each contender, one value a round; medians and spread."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any, Self

from benchmarks.databases import SQLITE


@dataclass(frozen=True, slots=True)
class Quantity:
    """What a value is of: `accept` of `celery`, the `rate` in `orders/s`, on `sqlite`."""

    measurement: str
    contender: str
    name: str
    unit: str
    database: str = SQLITE


@dataclass
class Results:
    """All values so far. `machine` is where they are from."""

    machine: dict[str, Any]
    values: dict[Quantity, list[float]] = field(default_factory=dict)

    def add(self, quantity: Quantity, value: float) -> None:
        """One value more, of one round."""
        self.values.setdefault(quantity, []).append(value)

    def of(self, measurement: str, database: str = SQLITE) -> dict[Quantity, list[float]]:
        """Everything of one measurement, in the order in which it was first measured."""
        of_it = (measurement, database)
        return {each: values for each, values in self.values.items() if (each.measurement, each.database) == of_it}

    def median(self, measurement: str, contender: str, name: str, database: str = SQLITE) -> float | None:
        """None where it was not measured."""
        return self.medians(measurement, name, database).get(contender)

    def medians(self, measurement: str, name: str, database: str = SQLITE) -> dict[str, float]:
        """By contender."""
        return {
            quantity.contender: median(values)
            for quantity, values in self.of(measurement, database).items()
            if quantity.name == name
        }

    @property
    def measurements(self) -> list[tuple[str, str]]:
        """Each with the database on which it was measured."""
        return list(dict.fromkeys((quantity.measurement, quantity.database) for quantity in self.values))

    def as_json(self) -> dict[str, Any]:
        return {"machine": self.machine, "quantities": list(self._rows())}

    def _rows(self) -> Iterator[dict[str, Any]]:
        for quantity, values in self.values.items():
            yield {
                "measurement": quantity.measurement,
                "contender": quantity.contender,
                "quantity": quantity.name,
                "unit": quantity.unit,
                "database": quantity.database,
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
            names = (row[key] for key in ("measurement", "contender", "quantity", "unit", "database"))
            quantity = Quantity(*names)
            results.values[quantity] = row["values"]
        return results
