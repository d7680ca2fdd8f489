"""Everything that the app is built from, typed; a misspelt key fails."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Self, TypeVar

from pydantic import AfterValidator, BaseModel, Field, model_validator

from gateway.local_state import to_write
from gateway.settings import LIMITS, STRICT, FixedSettings, OutputSettings
from gateway.weights.settings import WeightsSettings
from pipelines.prompts.words import WordList
from pipelines.settings import Device, DrawingSettings

Settings = TypeVar("Settings", bound=BaseModel)


class CheckingSettings(BaseModel):
    """How the safety checkers run."""

    model_config = STRICT

    device: Device = "cpu"
    """where they run, by torch's name; a GPU must also be booked for the SafetyChecker"""


class ExpandingSettings(BaseModel):
    """How the prompt expander runs, where the family has the part `expansion` or `folder` says another."""

    model_config = STRICT

    folder: Path | None = None
    """of another causal language model than the family's part `expansion`, as transformers writes one: `config.json`,
    safetensors, its tokenizer; no code in it is run. Without either, prompts are drawn as they are"""
    device: Device = "cpu"
    """where it runs, in float32; a GPU must also be booked for the PromptExpander"""
    max_new_tokens: int = Field(60, ge=1, le=512)
    """what it may add to one prompt, in its own tokens, and at most half of what it can read"""
    time_limit_s: float = Field(10.0, gt=0)
    """how long a request waits for its words; then, and where the expander is away or fails, it is drawn without them,
    and its log says so"""
    allowed: WordList | None = None
    """the only words that may be added: a list, or a file of them; none is `positive.txt` of the model's folder, or any
    word where it has no such file"""
    blocked: WordList = ()
    """words that are not added, likewise"""


def _absolute(*names: str) -> AfterValidator:
    """Makes the paths of these fields absolute, where they are paths, from here."""

    def made(settings: Settings) -> Settings:
        paths = {name: getattr(settings, name) for name in names}
        found = {name: path.expanduser().absolute() for name, path in paths.items() if isinstance(path, Path)}
        return settings.model_copy(update=found)

    return AfterValidator(made)


_FOLDERS = ("family", "profiles", "loras_folder", "embeddings_folder", "styles_folder", "wildcards_folder")


class AppSettings(BaseModel):
    """The argument of `deployments.app.build_app`: what the constructors of its replicas need.

    Relative paths count from the working directory of the process that builds the app, and are absolute afterwards, for
    replicas run elsewhere.
    """

    model_config = STRICT

    gateway: Annotated[FixedSettings, _absolute("data_dir")]
    drawing: Annotated[DrawingSettings, _absolute(*_FOLDERS)]
    weights: Annotated[WeightsSettings, _absolute("cache")] = WeightsSettings()
    checking: CheckingSettings = CheckingSettings()
    output: OutputSettings = OutputSettings()
    expanding: Annotated[ExpandingSettings, _absolute("folder", "allowed", "blocked")] = ExpandingSettings()

    @model_validator(mode="before")
    @classmethod
    def _where_things_are_now(cls, given: Any) -> Any:
        """Tells of a file from before where what it says has gone."""
        if not isinstance(given, Mapping):
            return given
        if "deployments" in given:
            raise ValueError(
                "args.deployments is now the list `deployments` beside args, in Serve's own form: write "
                "`- name: Diffuser` with num_replicas or autoscaling_config, and num_cpus and num_gpus under "
                "ray_actor_options (docs/operations.md, Replicas)"
            )
        gateway = given.get("gateway")
        for deployment, model in LIMITS.items():
            if isinstance(gateway, Mapping) and (moved := [name for name in gateway if name in model.model_fields]):
                names = ", ".join(moved)
                raise ValueError(
                    f"gateway: {names}: may change while the service runs now: write it into user_config of "
                    f"`- name: {deployment}`, in the list `deployments` beside args"
                )
        return given

    @model_validator(mode="after")
    def _fetches_end_first(self) -> Self:
        """Or a slow fetch would be a fault of ours, and be tried again and again."""
        if self.weights.timeout_s >= self.gateway.run_timeout_s:
            raise ValueError("weights.timeout_s must be below gateway.run_timeout_s, which goes on meanwhile")
        return self

    @model_validator(mode="after")
    def _one_state(self) -> Self:
        """A ledger that machines share, with files or secrets of each, is one service at this call and another at the
        next."""
        local = self.gateway.local_state()
        if local and "ledger_url" not in local:
            raise ValueError(
                f"gateway.ledger_url is shared by machines, and each would have {' and '.join(local)} of its own: "
                f"write {to_write(local)} (docs/operations.md, Several machines), or leave ledger_url out for a "
                "service of one machine"
            )
        return self

    @model_validator(mode="after")
    def _secrets_are_elsewhere(self) -> Self:
        self.check_secrets()
        return self

    def check_secrets(self) -> None:
        """Raises ValueError for a secret itself where keys are required: Serve keeps these settings, and shows them to
        whoever reaches its dashboard."""
        if self.gateway.keys == "required" and (named := self.gateway.secrets_in_clear()):
            example = f"file:/etc/fooocus-serve/{named[0]}"
            raise ValueError(
                f"gateway.{named[0]} holds a secret, which `serve config` and the dashboard would show: write where it "
                f"is, env:NAME (of the replicas' environment) or {example}"
            )

    def devices(self) -> Mapping[str, tuple[str, str]]:
        """By setting: the device in it, and the deployment that must book it where that is a GPU."""
        return {
            "drawing.device": (self.drawing.device, "Diffuser"),
            "checking.device": (self.checking.device, "SafetyChecker"),
            "expanding.device": (self.expanding.device, "PromptExpander"),
        }
