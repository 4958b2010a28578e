"""The suites of capabilities: each asks for clips of one world, and scores what comes back."""

from sora_jax.evaluation.suite import Suite
from sora_jax.evaluation.suites.digital import Digital
from sora_jax.evaluation.suites.geometry import Geometry
from sora_jax.evaluation.suites.interaction import Eating, Painting, Shattering
from sora_jax.evaluation.suites.objects import Falling, Objects
from sora_jax.evaluation.suites.permanence import Permanence, Shots
from sora_jax.evaluation.suites.text import Text

SUITES: dict[str, Suite] = {
    suite.name: suite
    for suite in (
        Text(),
        Text(held_out=True),
        Text(described=True),
        Objects(),
        Falling(),
        Permanence(),
        Shots(),
        Geometry(),
        Painting(),
        Eating(),
        Shattering(),
        Digital(),
    )
}
"""All of them, by the names that the command line knows."""
