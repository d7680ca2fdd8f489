"""The tables of settings in docs/operations.md, made of the models that read them.

`python -m deployments.settings_table` writes what stands between the page's markers; a test holds the page to it.
"""

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from deployments.placement import DEFAULTS
from deployments.settings import AppSettings, CheckingSettings, ExpandingSettings
from gateway.settings import LIMITS, MIB, FixedSettings, OutputSettings, ScalingRules
from gateway.weights.settings import WeightsSettings
from pipelines.settings import DrawingSettings

PAGE = Path("docs/operations.md")
BEGIN, END = "<!-- settings: {} -->", "<!-- end -->"
GIB = 1024 * MIB

NOTHING, ITSELF, ALL = "nothing", "its replicas", "everything"


class Options(BaseModel):
    """Serve's options of a deployment that concern an operator; `LASTS` says what a change of each restarts."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    num_replicas: int = 1
    """how many there are; of the Dispatcher one leads, and the others stand by"""
    autoscaling_config: dict[str, Any] | None = None
    """instead of a number: `min_replicas`, `max_replicas`, `target_ongoing_requests`, `upscale_delay_s`,
    `downscale_delay_s` and the others of Serve's ([Autoscaling](#autoscaling))"""
    max_ongoing_requests: int = DEFAULTS["Diffuser"].max_ongoing_requests
    """requests that a replica holds at once; of the Gateway 500, and at least 100"""
    user_config: dict[str, Any] = Field(default_factory=dict)
    """limits of the Gateway and the Dispatcher, below; others have none"""
    graceful_shutdown_timeout_s: float = DEFAULTS["Diffuser"].graceful_shutdown_timeout_s
    """how long a stopping replica may finish what it has; of the Dispatcher above its `stop_grace_s`"""
    health_check_period_s: float = DEFAULTS["Diffuser"].health_check_period_s
    """pause between two checks of a replica, which is replaced when it fails three in a row; of the Dispatcher 2"""
    health_check_timeout_s: float = DEFAULTS["Diffuser"].health_check_timeout_s
    """how long a check may take; of the Dispatcher 5"""
    logging_config: dict[str, Any] | None = None
    """instead of the application's"""
    ray_actor_options: dict[str, Any] = Field(default_factory=lambda: {"num_cpus": 0.1})
    """what a replica books: `num_cpus` and `num_gpus` (they do not limit), `accelerator_type`, `label_selector` (which
    nodes, by their labels: `{fooocus-serve/group: cpu}`, `"!gpu"`, `in(a, b)`), `runtime_env` and so on. What a file
    lists takes the place of all of it, and Ray books a whole CPU where `num_cpus` is left out"""
    max_surge_percent: int = 0
    """so many replicas more, in percent and rounded up, start before old ones stop, when a deployment rolls: they need
    a place, the Diffuser's a GPU. 0 stops a fifth of the old ones first, and then starts as many"""
    placement_group_bundles: list[dict[str, float]] | None = None
    """for replicas that need more than one actor's place"""
    max_replicas_per_node: int | None = None
    """at most so many on one machine"""
    request_router_config: dict[str, Any] | None = None
    """which replica a request goes to"""


RESTARTS: Mapping[str, str] = {
    "autoscaling_config": f"{NOTHING}; {ALL} where a deployment begins or ends to have one, or its `policy` changes",
    "ray_actor_options": ITSELF,
    "placement_group_bundles": ITSELF,
    "max_replicas_per_node": ITSELF,
    "request_router_config": ALL,
}
"""What a change restarts, where that is anything. Serve's code decides it; a test asks it."""

TABLES: Mapping[str, tuple[type[BaseModel], str]] = {
    "deployments": (Options, NOTHING),
    "Gateway": (LIMITS["Gateway"], NOTHING),
    "Dispatcher": (LIMITS["Dispatcher"], NOTHING),
    "scaling": (ScalingRules, NOTHING),
    "gateway": (FixedSettings, ALL),
    "drawing": (DrawingSettings, ALL),
    "weights": (WeightsSettings, ALL),
    "checking": (CheckingSettings, ALL),
    "output": (OutputSettings, ALL),
    "expanding": (ExpandingSettings, ALL),
}
"""By the name in the page's marker: the model, and what a change of its keys restarts."""


def restarts(table: str, key: str) -> str:
    """What a change of a key restarts."""
    return RESTARTS.get(key, NOTHING) if table == "deployments" else TABLES[table][1]


def table(name: str) -> str:
    """The table of a marker, in Markdown."""
    model, _ = TABLES[name]
    return "\n".join(["| key | default | is | a change restarts |", "|---|---|---|---|", *_rows(name, model)])


def written(page: str) -> str:
    """The page with its tables as they are now. Raises ValueError where a marker is missing."""
    for name in TABLES:
        page = put_between(page, BEGIN.format(name), table(name))
    return page


def put_between(page: str, begin: str, content: str) -> str:
    """The page with other content after a marker. Raises ValueError where it, or `END` after it, is missing."""
    before, found, rest = page.partition(begin)
    _, ended, after = rest.partition(END)
    if not found or not ended:
        raise ValueError(f"the page has no {begin} with {END} after it")
    return f"{before}{begin}\n{content}\n{END}{after}"


def _rows(name: str, model: type[BaseModel]) -> Iterator[str]:
    for key, field in model.model_fields.items():
        if field.description is None:
            raise ValueError(f"{model.__name__}.{key} does not say what it is")
        told = " ".join(field.description.split())
        yield f"| `{key}` | {_default(key, field)} | {told} | {restarts(name, key)} |"


def _default(key: str, field: FieldInfo) -> str:
    value = field.get_default(call_default_factory=True, validated_data={})
    match value:
        case _ if value is PydanticUndefined:
            return ""
        case None | ():
            return "none"
        case BaseModel():
            return "its own"
        case bool():
            return str(value).lower()
        case int() if key.endswith("_bytes") and value % MIB == 0:
            return f"{value // GIB} GiB" if value % GIB == 0 else f"{value // MIB} MiB"
        case int() | float():
            return f"{value:,g}" if value < 1000 else f"{value:,.0f}"
        case dict():
            return "`{" + ", ".join(f"{name}: {each}" for name, each in value.items()) + "}`" if value else "none"
        case str() if value.startswith("http"):
            return f"`{value}`"
    return str(value)


def main() -> int:
    """The exit code."""
    missing = {*AppSettings.model_fields} - {*TABLES}
    if missing:
        raise ValueError(f"no table has {', '.join(sorted(missing))}")
    PAGE.write_text(written(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
