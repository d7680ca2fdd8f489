"""The output schemas of the two families (fal-protocol 9.7)."""

from typing import Self

from pydantic import BaseModel, Field, model_validator

from gateway.work import Finished, Image, Work


class Output(BaseModel):
    """Output of the four Fooocus endpoints."""

    images: list[Image] = Field(description="The pictures, in the order of their seeds.")
    timings: dict[str, float] = Field(description="Seconds by stage; queue and wait are waiting.")
    has_nsfw_concepts: list[bool] = Field(description="For each picture, whether the safety checker fired.")

    @classmethod
    def of(cls, work: Work, finished: Finished) -> Self:
        return cls(
            images=list(finished.images),
            timings=dict(finished.timings),
            has_nsfw_concepts=list(finished.nsfw),
        )

    @model_validator(mode="after")
    def _parallel(self) -> Self:
        if len(self.images) != len(self.has_nsfw_concepts):
            raise ValueError("has_nsfw_concepts runs parallel to images")
        return self


class FooocusOutput(Output):
    """The pictures of a Fooocus request."""


class FastOutput(Output):
    """The pictures of a fast request, with what repeats them."""

    seed: int = Field(description="Seed of the first picture; picture i has the seed that is i higher.")
    prompt: str = Field(description="The prompt as it was drawn.")

    @classmethod
    def of(cls, work: Work, finished: Finished) -> Self:
        return cls(
            images=list(finished.images),
            timings=dict(finished.timings),
            has_nsfw_concepts=list(finished.nsfw),
            seed=work.spec.seeds[0],
            prompt=finished.prompt,
        )
