"""Seeds of any size, for generators that take only 32 bits."""

from __future__ import annotations

import numpy as np


def seed32(seed: int) -> int:
    """Return a seed below 2**32: `seed` itself, or a digest of a larger one, the same on every machine.

    NumPy's newer generators take whole numbers of any size, but its older ones, PyTorch's and Lightning's do not.
    """
    return seed if seed < 2**32 else int(np.random.SeedSequence(seed).generate_state(1)[0])
