"""The rows of the benchmark of rate against accuracy, and their file, docs/benchmarks/rate.json."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from .fronts import Cost, Point, cost_at
from .sweeps import VARIANTS

CostName = Literal["bits_per_weight", "matrix_bits_per_weight", "file_bytes"]


@dataclass(frozen=True)
class Row:
    """One compression.

    Attributes:
        model: folder name.
        method: name of the variant (``sweeps.VARIANTS``).
        settings: what it changes of the default settings.
        bits_per_weight: coded bytes of all quantised weights, with steps and models, over their number.
        matrix_bits_per_weight: the same over all float tensors of two or more dimensions; those that stay exact count
            as they are.
        file_bytes: the whole .cwb.
        score: of the decoded model on the test data.
        weight_bytes: the numerator of ``bits_per_weight``.
        other_bytes: the rest of the file by kind.
        above_bound: bits/weight over the Gaussian rate-distortion function: "mean" over weights, "least" and "most"
            over layers; empty when the report has none.
    """

    model: str
    method: str
    settings: dict[str, Any]
    bits_per_weight: float
    matrix_bits_per_weight: float
    file_bytes: int
    score: float
    weight_bytes: int
    other_bytes: dict[str, int]
    above_bound: dict[str, float] = field(default_factory=dict)

    def point(self, cost: CostName) -> Point:
        """One cost against the score."""
        return Point(getattr(self, cost), self.score)


@dataclass(frozen=True)
class Results:
    """All that is measured: the rows, and per model the float score, the score of guessing and the ONNX bytes."""

    rows: list[Row]
    models: dict[str, dict[str, float]]

    def points(self, model: str, method: str, cost: CostName) -> list[Point]:
        """One curve."""
        return [row.point(cost) for row in self.rows if row.model == model and row.method == method]

    def cost_at(self, model: str, method: str, cost: CostName, percent: float) -> Cost | None:
        """A cost interpolated at a share of the float score."""
        return cost_at(self.points(model, method, cost), self.target(model, percent))

    def cheapest(self, model: str, method: str, percent: float) -> Row | None:
        """The smallest file that was measured to keep that share of the float score."""
        kept = [row for row in self.rows if row.model == model and row.method == method]
        kept = [row for row in kept if row.score >= self.target(model, percent)]
        return min(kept, key=lambda row: row.file_bytes, default=None)

    def sharing(self, method: str, other: str) -> Results:
        """Without those points of ``method`` whose lambda no point of ``other`` has on the same model."""
        known = {(row.model, row.settings.get("lambda_")) for row in self.rows if row.method == other}
        kept = [row for row in self.rows if row.method != method or (row.model, row.settings.get("lambda_")) in known]
        return Results(kept, self.models)

    def target(self, model: str, percent: float) -> float:
        """The score that is ``percent`` of the float one, counted from the score of guessing."""
        chance, score = self.models[model]["chance"], self.models[model]["float"]
        return chance + (score - chance) * percent / 100

    def merged(self, newer: Results) -> Results:
        """With the curves of ``newer`` in place of the same curves here."""
        again = {(row.model, row.method) for row in newer.rows}
        rows = [row for row in self.rows if (row.model, row.method) not in again] + newer.rows
        order = list(VARIANTS)
        rows.sort(key=lambda row: (row.model, order.index(row.method) if row.method in order else len(order)))
        return Results(rows, dict(sorted((self.models | newer.models).items())))

    def save(self, path: Path) -> None:
        """Write JSON, one line per row."""
        rows = ",\n".join("  " + json.dumps(asdict(row)) for row in self.rows)
        models = ",\n".join(f"  {json.dumps(name)}: {json.dumps(facts)}" for name, facts in self.models.items())
        path.write_text(f'{{"models": {{\n{models}\n}},\n"rows": [\n{rows}\n]}}\n')

    @classmethod
    def load(cls, path: Path) -> Results:
        """Read what :meth:`save` wrote; empty where there is no file."""
        if not path.exists():
            return cls([], {})
        body = json.loads(path.read_text())
        return cls([Row(**row) for row in body["rows"]], body["models"])
