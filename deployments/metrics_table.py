"""The table of metrics in docs/operations.md, made of the contract.

`python -m deployments.metrics_table` writes what stands between the page's markers; a test holds the page to it.
"""

import sys
from pathlib import Path

from deployments.settings_table import put_between
from gateway.monitoring.contract import METRICS, PREFIX, STAGES, Metric

PAGE = Path("docs/operations.md")
BEGIN = "<!-- metrics -->"


def table() -> str:
    """In Markdown."""
    rows = [_row(metric) for metric in METRICS]
    return "\n".join(["| metric | type | unit | labels | of | is |", "|---|---|---|---|---|---|", *rows])


def written(page: str) -> str:
    """The page with its table as it is now. Raises ValueError where a marker is missing."""
    return put_between(page, BEGIN, table())


def series(metric: Metric) -> tuple[str, ...]:
    """The names under which Prometheus finds it."""
    name = f"{PREFIX}{metric.name}"
    return tuple(f"{name}_{part}" for part in ("bucket", "sum", "count")) if metric.kind == "histogram" else (name,)


def _row(metric: Metric) -> str:
    labels = ", ".join(f"`{label}`" for label in metric.labels)
    where = "every stage" if metric.where == STAGES else ", ".join(metric.where)
    return f"| `{metric.name}` | {metric.kind} | {metric.unit} | {labels} | {where} | {metric.meaning} |"


def main() -> int:
    """The exit code."""
    PAGE.write_text(written(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
