"""Reading a Serve config file strictly: Serve itself accepts misspelt keys without a word.

`python -m deployments.config_file FILE` says what is wrong with one before it is given to `serve deploy`.
"""

import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import UnionType
from typing import Any, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError
from ray.serve.schema import ServeDeploySchema

from deployments.binding import check_host
from deployments.placement import Options, check_policy, check_rows, gpus_of, limits_in, placed
from deployments.replica import unbooked
from deployments.settings import AppSettings
from gateway.settings import GatewaySettings
from gateway.validation import names_at, nearest


class ConfigFile(BaseModel):
    """A config file of this service: what Serve takes, and the settings of its one application.

    options: of each deployment, with the defaults of what the file does not list.
    """

    serve: ServeDeploySchema
    settings: AppSettings
    options: Mapping[str, Options]

    def gateway(self) -> GatewaySettings:
        """With the limits that its replicas begin with."""
        return GatewaySettings.of(self.settings.gateway, *limits_in(self.options))


def read(path: Path) -> ConfigFile:
    """Read and check a file. Raises ValueError for what Serve would refuse and for what it would overlook.

    Each says which file it is about.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(f"the config file {path} cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not YAML: it has bytes that are no UTF-8") from error
    except yaml.YAMLError as error:
        raise ValueError(f"{path} is not YAML: {_yaml_fault(error)}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} is not a Serve config file")
    try:
        return check(content)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def check(content: Mapping[str, Any]) -> ConfigFile:
    """Check the content of a file. Raises ValueError as `read` does."""
    if unknown := list(unknown_keys(content, ServeDeploySchema)):
        told = [f"{key}{_meant(key.split('.'), ServeDeploySchema)}" for key in unknown]
        raise ValueError(f"the Serve config has unknown keys: {', '.join(told)}")
    try:
        schema = ServeDeploySchema.model_validate(content)
    except ValidationError as error:
        raise ValueError(f"the Serve config is wrong: {_sentence(error, ServeDeploySchema)}") from error
    if len(schema.applications) != 1:
        raise ValueError("the Serve config must have exactly one application")
    try:
        settings = AppSettings.model_validate(schema.applications[0].args)
    except ValidationError as error:
        raise ValueError(f"the settings are wrong: {_sentence(error, AppSettings)}") from error
    options = placed(schema.applications[0].deployments)
    check_policy(schema.applications[0].autoscaling_policy or {}, options)
    for setting, (device, deployment) in settings.devices().items():
        # Ray hides from a replica the GPUs that it does not book
        if device.startswith("cuda") and gpus_of(options[deployment]) == 0:
            raise ValueError(unbooked(setting, device, deployment))
    check_rows(options, settings.drawing.rows)
    check_host(schema.http_options.host, settings.gateway.keys == "required")
    return ConfigFile(serve=schema, settings=settings, options=options)


def unknown_keys(content: Mapping[str, Any], model: type[BaseModel], at: str = "") -> Iterator[str]:
    """The dotted keys of `content` that `model` and the models inside it do not know."""
    for key, value in content.items():
        field = model.model_fields.get(key)
        if field is None:
            yield f"{at}{key}"
            continue
        for inner in _models(field.annotation):
            entries = value if isinstance(value, list) else [value]
            for entry in entries:
                if isinstance(entry, Mapping):
                    yield from unknown_keys(entry, inner, f"{at}{key}.")


def _models(annotation: Any) -> list[type[BaseModel]]:
    if get_origin(annotation) in (Union, UnionType, list):
        return [model for part in get_args(annotation) for model in _models(part)]
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return []


def _yaml_fault(error: yaml.YAMLError) -> str:
    if not isinstance(error, yaml.MarkedYAMLError) or error.problem_mark is None:
        return " ".join(str(error).split())
    line = f"line {error.problem_mark.line + 1}: {error.problem}"
    return f"{line}; indent with spaces, not with tabs" if "'\\t'" in line else line


def _meant(place: Sequence[int | str], model: type[BaseModel]) -> str:
    """In brackets the known key that is nearest to an unknown one of `model` or of the models inside it, if any is."""
    near = nearest(str(place[-1]), names_at(model, place[:-1]))
    return f" (did you mean {near[0]}?)" if near else ""


def _sentence(error: ValidationError, model: type[BaseModel]) -> str:
    """Each fault with the field that it is about, without the values, which may be secrets."""
    faults = []
    for fault in error.errors(include_input=False, include_url=False):
        field = ".".join(map(str, fault["loc"]))
        if fault["type"] == "extra_forbidden":
            says = f"is no setting{_meant(fault['loc'], model) or ' (docs/operations.md has them)'}"
        else:
            says = fault["msg"].removeprefix("Value error, ")
        faults.append(f"{field}: {says}" if field else says)
    return "; ".join(faults)


def main(arguments: Sequence[str]) -> int:
    """The exit code."""
    if len(arguments) != 1:
        print("usage: python -m deployments.config_file FILE", file=sys.stderr)
        return 2
    try:
        read(Path(arguments[0]))
    except ValueError as error:
        print(error, file=sys.stderr)
        return 1
    print(f"{arguments[0]} is one that the service takes.")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
