"""What a replica of each deployment takes, and how many there are: defaults, and what a config file lists instead."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from ray.serve.config import AutoscalingConfig
from ray.serve.schema import DeploymentSchema

from deployments.autoscaling import scale
from deployments.routing import ROUTER
from gateway.http.middleware import LEAST_ONGOING
from gateway.settings import LIMITS
from gateway.validation import names_at, nearest


class Placement(BaseModel):
    """The defaults of a deployment. num_cpus and num_gpus book, they do not limit.

    graceful_shutdown_timeout_s: how long a stopping replica may finish what it has. health_check_period_s,
    health_check_timeout_s: a replica that fails three checks in a row is replaced, and so is one that hangs.
    request_router_class: of the router of its calls, where it is not Serve's own.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    num_cpus: float = Field(0.1, ge=0)
    num_gpus: float = Field(0.0, ge=0)
    num_replicas: int = Field(1, ge=1)
    max_ongoing_requests: int = Field(100, ge=1)
    graceful_shutdown_timeout_s: float = Field(20.0, ge=0)
    health_check_period_s: float = Field(10.0, gt=0)
    health_check_timeout_s: float = Field(30.0, gt=0)
    request_router_class: str | None = None

    def options(self) -> dict[str, Any]:
        """As `serve.deployment` takes them."""
        actor = {"num_cpus": self.num_cpus, "num_gpus": self.num_gpus}
        routed = self.model_dump(include={"request_router_class"}, exclude_none=True)
        told = self.model_dump(exclude={*actor, "request_router_class"})
        return {**told, "ray_actor_options": actor} | ({"request_router_config": routed} if routed else {})


DEFAULTS: Mapping[str, Placement] = MappingProxyType(
    {
        # calls at once; some of them stay free for health
        "Gateway": Placement(max_ongoing_requests=500),
        # all wait for it, so that it hangs is found out within half a minute
        # calls at once: up to nine of each Gateway, and one of each Diffuser
        "Dispatcher": Placement(
            max_ongoing_requests=1000,
            health_check_period_s=2.0,
            health_check_timeout_s=5.0,
            request_router_class=ROUTER,
        ),
        "Preprocessor": Placement(),
        "PromptExpander": Placement(),
        "Diffuser": Placement(request_router_class=ROUTER),
        "SafetyChecker": Placement(),
        "Postprocessor": Placement(),
    }
)
"""By the name of each deployment of the app."""

POLICY = f"{scale.__module__}:{scale.__name__}"
"""As a config file names it."""

Options = Mapping[str, Any]
"""Of one deployment, as `serve.deployment` takes them."""


def defaults_of(name: str) -> dict[str, Any]:
    """The options that a deployment has where a config file says nothing of it."""
    options = DEFAULTS[name].options()
    if name in LIMITS:
        # so that Serve tells a replica, too, that a config file does not list any limits any more
        options["user_config"] = {}
    return options


def placed(listed: Sequence[DeploymentSchema]) -> dict[str, Options]:
    """The options of every deployment: the defaults, and what a config file lists instead.

    Raises ValueError for a name or a number that cannot be, with what to write.
    """
    options: dict[str, Options] = {name: defaults_of(name) for name in DEFAULTS}
    seen: set[str] = set()
    for one in listed:
        if one.name not in DEFAULTS:
            near = nearest(one.name, DEFAULTS)
            meant = f"did you mean {near[0]}?" if near else f"there are {', '.join(DEFAULTS)}"
            raise ValueError(f"deployments: the app has no {one.name} ({meant})")
        if one.name in seen:
            raise ValueError(f"deployments: {one.name} is listed twice: write all of it in one place")
        seen.add(one.name)
        options[one.name] = _overridden(options[one.name], one)
    _check(options)
    return options


def limits_in(options: Mapping[str, Options]) -> list[Any]:
    """The limits of the Gateway and of the Dispatcher in their `user_config`. Raises ValueError as `read_limits`."""
    return [read_limits(name, options[name].get("user_config") or {}) for name in LIMITS]


def read_limits(name: str, user_config: object) -> Any:
    """The limits in the `user_config` of a deployment. Raises ValueError, which says what is wrong with it."""
    model = LIMITS[name]
    try:
        return model.model_validate(user_config)
    except ValidationError as error:
        faults = []
        for fault in error.errors(include_input=False, include_url=False):
            key, says = ".".join(map(str, fault["loc"])), fault["msg"].removeprefix("Value error, ")
            if fault["type"] == "extra_forbidden":
                near = nearest(str(fault["loc"][-1]), names_at(model, fault["loc"][:-1]))
                meant = f"did you mean {near[0]}?" if near else "docs/operations.md has them"
                says = f"is no limit that may change while it runs ({meant})"
            faults.append(f"{key}: {says}" if key else says)
        raise ValueError(f"the user_config of {name} is wrong: {'; '.join(faults)}") from None


def _overridden(defaults: Options, listed: DeploymentSchema) -> Options:
    given = listed.model_dump(exclude_unset=True, exclude={"name"})
    if {"num_replicas", "autoscaling_config"} & given.keys():
        defaults = {name: value for name, value in defaults.items() if name != "num_replicas"}
    given = {name: value for name, value in given.items() if name != "num_replicas" or value is not None}
    return {**defaults, **given}


def _check(options: Mapping[str, Options]) -> None:
    for name, each in options.items():
        if isinstance(scaling := each.get("autoscaling_config"), Mapping):
            try:
                AutoscalingConfig(**scaling)
            except ValidationError as error:
                told = error.errors(include_input=False, include_url=False)[0]
                field = ".".join(["autoscaling_config", *map(str, told["loc"])])
                said = told["msg"].removeprefix("Value error, ")
                raise ValueError(f"deployments: {name}: {field}: {said}") from None
        if each.get("user_config") and name not in LIMITS:
            raise ValueError(f"deployments: {name} takes no user_config; only {' and '.join(LIMITS)} do")
    dispatcher, gateway = options["Dispatcher"], options["Gateway"]
    if not _is_fixed(dispatcher):
        raise ValueError(
            "deployments: Dispatcher has as many replicas as are told, for one leads and the others stand by: write "
            "num_replicas, or, as where it publishes how much there is to do, an autoscaling_config with max_replicas "
            "equal to min_replicas"
        )
    if gateway["max_ongoing_requests"] < LEAST_ONGOING:
        raise ValueError(
            f"deployments: Gateway: max_ongoing_requests is {gateway['max_ongoing_requests']}, and "
            f"{LEAST_ONGOING} are the least, for some stay free for health"
        )
    *_, limits = limits_in(options)
    check_grace(limits.stop_grace_s, dispatcher["graceful_shutdown_timeout_s"])


def _is_fixed(options: Options) -> bool:
    if (scaling := options.get("autoscaling_config")) is None:
        return isinstance(options.get("num_replicas", 1), int)
    config = AutoscalingConfig(**scaling)
    return config.min_replicas > 0 and {config.initial_replicas, config.max_replicas} <= {None, config.min_replicas}


def check_grace(stop_grace_s: float, shutdown_timeout_s: float) -> None:
    """Raises ValueError where Serve would end the Dispatcher before it has put back what it holds."""
    if shutdown_timeout_s <= stop_grace_s:
        raise ValueError(
            f"deployments: Dispatcher: graceful_shutdown_timeout_s is {shutdown_timeout_s:g}: set it above "
            f"stop_grace_s of its user_config, which is {stop_grace_s:g}"
        )


def check_policy(policy: Mapping[str, Any], options: Mapping[str, Options]) -> None:
    """Raises ValueError where the policy of an application is ours, and would get no figures or act late.

    policy: as a config file has it.
    """
    if policy.get("policy_function") != POLICY:
        return
    dispatcher, diffuser = (options[name].get("autoscaling_config") for name in ("Dispatcher", "Diffuser"))
    if dispatcher is None:
        raise ValueError(
            f"autoscaling_policy: {POLICY} goes by what the Dispatcher publishes: give the Dispatcher an "
            "autoscaling_config with max_replicas equal to min_replicas, metrics_interval_s: 1 and "
            "look_back_period_s: 5"
        )
    *_, limits = limits_in(options)
    if (every := AutoscalingConfig(**dispatcher).metrics_interval_s) > limits.scaling.stale_s / 2:
        raise ValueError(
            f"deployments: Dispatcher: metrics_interval_s is {every:g}: set it to half of scaling.stale_s of its "
            f"user_config or less, which is {limits.scaling.stale_s:g}; 1 is usual"
        )
    if diffuser is None:
        raise ValueError(
            f"autoscaling_policy: {POLICY} sets the number of Diffusers: give the Diffuser an autoscaling_config with "
            "min_replicas and max_replicas"
        )
    scaling = AutoscalingConfig(**diffuser)
    late = scaling.upscale_delay_s, scaling.downscale_delay_s, scaling.downscale_to_zero_delay_s or 0
    if any(late) or scaling.initial_replicas is not None:
        raise ValueError(
            f"deployments: Diffuser: {POLICY} waits by itself before it takes replicas away (scaling in the "
            "Dispatcher's user_config): write upscale_delay_s: 0 and downscale_delay_s: 0 into the "
            "autoscaling_config, and leave out initial_replicas, which Serve would apply again at every change"
        )


def check_rows(options: Mapping[str, Options], rows: int) -> None:
    """Raises ValueError where a Diffuser would refuse what the dispatcher sends it: requests of a row each."""
    if (most := options["Diffuser"]["max_ongoing_requests"]) < rows:
        raise ValueError(
            f"deployments: Diffuser: max_ongoing_requests is {most}: set it to drawing.rows at least, which is {rows}"
        )


def gpus_of(options: Options) -> float:
    """How many a replica books."""
    return float((options.get("ray_actor_options") or {}).get("num_gpus") or 0)
