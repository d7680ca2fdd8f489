"""A memory plan in words: what stays on the device, what is brought, what sizes and how many rows of them fit."""

from collections.abc import Iterator

from pipelines.memory.plan import COMMON, FACTOR, LEAST_ROWS, RESERVE, Footprint, MemoryPlan, in_gb, latent_pixels

SIDES = (512, 768, COMMON, 1536, 2048)
GRID = 64  # pixels to which sides of the largest picture are rounded down


def describe(plan: MemoryPlan, footprint: Footprint, rows: int) -> Iterator[str]:
    """Lines for people. rows: the most of a call of any size."""
    own = f"UNet {in_gb(footprint.unet)}, text encoders {in_gb(footprint.text_encoders)}, VAE {in_gb(footprint.vae)}"
    others = ", ".join(f"{part} {in_gb(size)}" for part, size in footprint.optional.items())
    yield (
        f"device memory: {in_gb(plan.memory)}, of it {in_gb(plan.parts)} for models, {in_gb(plan.working)} for calls "
        f"while they run, {in_gb(RESERVE)} in reserve (an estimate)"
    )
    if plan.resident:
        yield f"on the device from the start: {own}"
        yield f"beside them, those used last: {in_gb(plan.merged)} of merged LoRAs and control networks"
        if others:
            yield f"brought to the device on first use: {others}"
    else:
        yield f"in the host's memory, brought to the device when used: {', '.join(filter(None, [own, others]))}"
        if others:
            yield f"read from disk on first use: {', '.join(footprint.optional)}"
        turns = list(taking_turns(plan, footprint))
        yield f"what takes turns with the UNet on the device, which takes time: {', '.join(turns) or 'nothing'}"
        yield (
            f"host memory: up to {in_gb(footprint.base + sum(footprint.optional.values()))} for these, and "
            f"{in_gb(footprint.unet)} for each UNet with LoRAs merged in"
        )
    told = ", ".join(f"{rows_of(plan, side, rows)} at {side} x {side}" for side in SIDES)
    yield f"rows of a call: at most {told}"
    side = largest_side(plan, footprint)
    yield f"the largest picture whose guided rows and VAE fit: {side} x {side}"


def rows_of(plan: MemoryPlan, side: int, rows: int) -> int:
    """The most rows of a call at side x side, of at most `rows` of any size."""
    return min(rows, plan.rows_at(latent_pixels(side)))


def largest_side(plan: MemoryPlan, footprint: Footprint) -> int:
    """The side, in pixels, of the largest square picture for which is set aside what it needs."""
    pixel = max(footprint.vae_pixel, LEAST_ROWS * footprint.row_pixel)
    return int((plan.working / pixel) ** 0.5) * FACTOR // GRID * GRID


def taking_turns(plan: MemoryPlan, footprint: Footprint) -> Iterator[str]:
    """What cannot lie on the device together with the UNet, in words, and when it is brought."""
    if plan.resident:
        return
    if footprint.base > plan.parts:
        yield "text encoders (a new prompt)"
    room = plan.parts - footprint.unet
    if footprint.control > room:
        yield "control networks (each step)"
    if footprint.optional.get("inpaint_patch", 0) > room:
        yield "inpaint base (beside other pictures)"
    if footprint.optional.get("refiner", 0) > room:
        yield "refiner (in the last steps)"
    if footprint.unet > room:
        yield "UNets with LoRAs merged in (beside other pictures)"
