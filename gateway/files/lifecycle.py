"""fal's object lifecycle: how long a file is kept and who may read it, from the JSON of a header (fal-protocol 6.4)."""

from collections.abc import Mapping

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from gateway.errors import PlatformError
from gateway.files.access import Acl

OF_UPLOADS = ("x-fal-object-lifecycle", "x-fal-object-lifecycle-preference")
OF_OUTPUTS = ("x-fal-object-lifecycle-preference",)
MAX_HEADER = 1000  # characters: a bucket keeps at most 2 kB of metadata with an object
MAX_EXPIRATION_S = 100 * 365 * 24 * 3600


class Lifecycle(BaseModel):
    """Without a duration a file is kept as settings say. Fields that fal may add are not looked at."""

    model_config = ConfigDict(frozen=True)

    expiration_duration_seconds: int | None = Field(None, ge=1, le=MAX_EXPIRATION_S)
    initial_acl: Acl | None = None

    def expires_in_s(self, default_s: int | None) -> int | None:
        """Seconds from the creation of a file to its end; None keeps it. default_s: what settings say."""
        return default_s if self.expiration_duration_seconds is None else self.expiration_duration_seconds


def lifecycle_of(headers: Mapping[str, str], names: tuple[str, ...]) -> Lifecycle:
    """What the first header of `names` that is there asks for. Raises PlatformError (400) for what it must not say."""
    name = next((name for name in names if name in headers), None)
    if name is None:
        return Lifecycle()
    text = headers[name]
    if len(text) > MAX_HEADER:
        raise PlatformError("bad_request", f"The header {name} is longer than {MAX_HEADER} characters.")
    try:
        return Lifecycle.model_validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        where = ".".join(map(str, first["loc"])) or "its JSON"
        raise PlatformError("bad_request", f"The header {name} is not valid: {where}: {first['msg']}.") from None
