"""Groups of completions: what was sampled from one prompt, what it earned, and what the loss makes of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from geotune.geo import haversine_km
from geotune.rl.advantages import advantages, is_dead, spread_values

if TYPE_CHECKING:
    from geotune.backbones.generation import Completion
    from geotune.config.losses import AdvantageScale
    from geotune.encoding.segments import Encoded
    from geotune.geo import FloatArray
    from geotune.rl.rewards import Reward, Scored
    from geotune.sample import Sample


@dataclass(frozen=True)
class CompletionGroup:
    """The completions of one prompt, with their rewards and advantages."""

    slot: int
    """Number of the group's place in its update, over all ranks."""
    draw: int
    """Number of prompts that were tried in this place before."""
    sample: Sample
    prompt: Encoded
    completions: tuple[Completion, ...]
    texts: tuple[str, ...]
    scored: tuple[Scored, ...]
    """What the reward says of each completion by itself."""
    rewards: tuple[float, ...]
    """Reward of each completion, in [0, 1]; with a spread it depends on the whole group."""
    advantages: tuple[float, ...]
    is_dead: bool
    """Whether all rewards are the same, so that there is nothing to learn from the group."""

    @property
    def live(self) -> list[int]:
        """Numbers of the completions that the loss is made of: those that ended by themselves, in a group with life."""
        return [] if self.is_dead else [number for number, each in enumerate(self.completions) if each.stopped]

    @property
    def live_lengths(self) -> list[int]:
        """Number of tokens of each completion that the loss is made of."""
        return [len(self.completions[number].tokens) for number in self.live]


def group_rewards(reward: Reward, scored: Sequence[Scored], finished: Sequence[bool], spread: float) -> FloatArray:
    """Return the reward of each completion of a group, (G,), in [0, 1].

    Without `spread` each has the reward that it has by itself. With it, the value of the geodesic term is replaced by
    that of `spread_values`; completions that give no place, were gated out or did not finish count as unreadable.
    """
    if not spread:
        return np.array([each.value for each in scored])
    assert reward.geodesic is not None, "a spread is between places"
    name, term = reward.geodesic
    values = [each.terms[name] for each in scored]
    readable = [
        done and not each.gated and value.place is not None
        for done, each, value in zip(finished, scored, values, strict=True)
    ]
    degrees = np.array([[0.0, 0.0] if v.place is None else [v.place.lat, v.place.lon] for v in values])
    lat, lon = degrees.T
    between = term.values(haversine_km(lat[:, None], lon[:, None], lat, lon))
    spread_out = spread_values([value.value for value in values], between, readable, spread)
    return np.array(
        [
            reward.total({**{key: term.value for key, term in each.terms.items()}, name: value}, gated=each.gated)
            for each, value in zip(scored, spread_out.tolist(), strict=True)
        ]
    )


def make_group(
    slot: int,
    draw: int,
    sample: Sample,
    prompt: Encoded,
    completions: Sequence[Completion],
    texts: Sequence[str],
    reward: Reward,
    *,
    spread: float,
    scale: AdvantageScale,
) -> CompletionGroup:
    """Return the group of the completions of a prompt. Raises what `reward` raises for a term that fails."""
    scored = tuple(reward(text, sample) for text in texts)
    rewards = group_rewards(reward, scored, [completion.stopped for completion in completions], spread)
    return CompletionGroup(
        slot,
        draw,
        sample,
        prompt,
        tuple(completions),
        tuple(texts),
        scored,
        tuple(rewards.tolist()),
        tuple(advantages(rewards, scale).tolist()),
        bool(is_dead(rewards)),
    )
