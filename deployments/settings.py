"""Everything that an operator may set about the app, typed; a misspelt key fails."""

from pathlib import Path
from typing import Annotated, Any, Self, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from gateway.http.middleware import LEAST_ONGOING
from gateway.settings import GatewaySettings, OutputSettings
from gateway.weights.settings import WeightsSettings
from pipelines.prompts.words import WordList
from pipelines.settings import Device, DrawingSettings

Settings = TypeVar("Settings", bound=BaseModel)


class _Strict(BaseModel):
    # what is wrong is told without what was given, which may hold passwords
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class Autoscaling(_Strict):
    """Serve's autoscaling by ongoing requests; delays in seconds."""

    min_replicas: int = Field(1, ge=0)
    max_replicas: int = Field(1, ge=1)
    target_ongoing_requests: float = Field(2.0, gt=0)
    upscale_delay_s: float = Field(30.0, ge=0)
    downscale_delay_s: float = Field(600.0, ge=0)

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.min_replicas > self.max_replicas:
            raise ValueError("min_replicas is above max_replicas")
        return self


class Placement(_Strict):
    """What a replica of a deployment takes. num_cpus and num_gpus book, they do not limit.

    graceful_shutdown_timeout_s: how long a stopping replica may finish what it has. health_check_period_s,
    health_check_timeout_s: a replica that fails three checks in a row is replaced, and so is one that hangs.
    """

    num_cpus: float = Field(0.1, ge=0)
    num_gpus: float = Field(0.0, ge=0)
    accelerator_type: str | None = None
    max_ongoing_requests: int = Field(100, ge=1)
    graceful_shutdown_timeout_s: float = Field(20.0, ge=0)
    health_check_period_s: float = Field(10.0, gt=0)
    health_check_timeout_s: float = Field(30.0, gt=0)

    def options(self) -> dict[str, Any]:
        """As `serve.deployment` takes them."""
        actor: dict[str, Any] = {"num_cpus": self.num_cpus, "num_gpus": self.num_gpus}
        if self.accelerator_type is not None:
            actor["accelerator_type"] = self.accelerator_type
        options = self.model_dump(exclude={"num_cpus", "num_gpus", "accelerator_type", "num_replicas", "autoscaling"})
        return {**options, "ray_actor_options": actor}


class Replication(Placement):
    """A placement of several replicas: a number of them, or autoscaling."""

    num_replicas: int | None = Field(None, ge=1)
    autoscaling: Autoscaling | None = None

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if self.num_replicas is not None and self.autoscaling is not None:
            raise ValueError("num_replicas and autoscaling exclude each other")
        return self

    def options(self) -> dict[str, Any]:
        if self.autoscaling is not None:
            return {**super().options(), "autoscaling_config": self.autoscaling.model_dump()}
        return {**super().options(), "num_replicas": self.num_replicas or 1}


class Ingress(Replication):
    """Where the Gateway runs. max_ongoing_requests: calls that a replica has at once; some stay free for health."""

    max_ongoing_requests: int = Field(500, ge=LEAST_ONGOING)


class Watched(Placement):
    """Where the dispatcher runs. All wait for it, so that it hangs is found out within half a minute."""

    health_check_period_s: float = Field(2.0, gt=0)
    health_check_timeout_s: float = Field(5.0, gt=0)


class Deployments(_Strict):
    """Where each deployment runs. The dispatcher is always one replica."""

    gateway: Ingress = Ingress()
    dispatcher: Watched = Watched()
    preprocessor: Replication = Replication()
    prompt_expander: Replication = Replication()
    diffuser: Replication = Replication()
    safety_checker: Replication = Replication()
    postprocessor: Replication = Replication()


class CheckingSettings(_Strict):
    """How the safety checker runs. device: torch's name of it; a GPU must also be booked for its deployment."""

    device: Device = "cpu"


class ExpandingSettings(_Strict):
    """How the prompt expander runs, where the family has the part `expansion` or `folder` says another.

    folder: of a causal language model as transformers writes one, its weights in safetensors; None for the family's.
    device: torch's name of it; a GPU must also be booked for its deployment. max_new_tokens: of one prompt, in the
    model's own tokens. time_limit_s: how long a request waits for its words; it is drawn without any then. allowed:
    the only words that may be added, a list or a file of them; None for the file `positive.txt` of the model's
    folder, or any word where it has none. blocked: words that are not added.
    """

    folder: Path | None = None
    device: Device = "cpu"
    max_new_tokens: int = Field(60, ge=1, le=512)
    time_limit_s: float = Field(10.0, gt=0)
    allowed: WordList | None = None
    blocked: WordList = ()


def _absolute(*names: str) -> AfterValidator:
    """Makes the paths of these fields absolute, where they are paths, from here."""

    def made(settings: Settings) -> Settings:
        paths = {name: getattr(settings, name) for name in names}
        found = {name: path.expanduser().absolute() for name, path in paths.items() if isinstance(path, Path)}
        return settings.model_copy(update=found)

    return AfterValidator(made)


_FOLDERS = ("family", "profiles", "loras_folder", "embeddings_folder", "styles_folder", "wildcards_folder")


class AppSettings(_Strict):
    """The argument of `deployments.app.build_app`.

    Relative paths count from the working directory of the process that builds the app, and are absolute afterwards, for
    replicas run elsewhere.
    """

    gateway: Annotated[GatewaySettings, _absolute("data_dir")]
    drawing: Annotated[DrawingSettings, _absolute(*_FOLDERS)]
    weights: Annotated[WeightsSettings, _absolute("cache")] = WeightsSettings()
    checking: CheckingSettings = CheckingSettings()
    output: OutputSettings = OutputSettings()
    expanding: Annotated[ExpandingSettings, _absolute("folder", "allowed", "blocked")] = ExpandingSettings()
    deployments: Deployments = Deployments()

    @model_validator(mode="after")
    def _gpus_are_booked(self) -> Self:
        # Ray hides from a replica the GPUs that it does not book
        placed = self.deployments
        used = {
            "drawing.device": (self.drawing.device, "diffuser", placed.diffuser.num_gpus),
            "checking.device": (self.checking.device, "safety_checker", placed.safety_checker.num_gpus),
            "expanding.device": (self.expanding.device, "prompt_expander", placed.prompt_expander.num_gpus),
        }
        for field, (device, deployment, gpus) in used.items():
            if device.startswith("cuda") and gpus == 0:
                raise ValueError(
                    f"{field} is {device}, but a replica books no GPU: set deployments.{deployment}.num_gpus to 1, "
                    f"or {field} to cpu"
                )
        return self

    @model_validator(mode="after")
    def _fetches_end_first(self) -> Self:
        """Or a slow fetch would be a fault of ours, and be tried again and again."""
        if self.weights.timeout_s >= self.gateway.run_timeout_s:
            raise ValueError("weights.timeout_s must be below gateway.run_timeout_s, which goes on meanwhile")
        return self
