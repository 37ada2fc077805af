from __future__ import annotations
from dataclasses import dataclass, field
from typing import Any, ClassVar
from geotune.config.options import Options
from geotune.rl.kernels import kernel
from geotune.tasks import get_task
from geotune.tasks.geolocate import GEOLOCATE
from geotune.geo import haversine_km
@dataclass(frozen=True)
class TermValue:
    value: float
    reason: Any
    read: Any
    place: Any = None
@dataclass(frozen=True)
class Scored:
    terms: Any
    value: float
    gated: bool
class Geo:
    kernel = "multiscale"
    def similarity(self, km): return kernel(self.kernel, km, 1.0)
    def truth(self, sample): return GEOLOCATE.coordinates(sample.answer)
    def __call__(self, text, sample):
        p = GEOLOCATE.parse(text)
        if p.answer is None: return TermValue(0.0, p.reason, None)
        at, t = GEOLOCATE.coordinates(p.answer), self.truth(sample)
        return TermValue(float(self.similarity(haversine_km(at.lat, at.lon, t.lat, t.lon))), None, p.answer, at)
@dataclass
class RewardConfig(Options):
    _target_: str = ""
class Reward:
    Config: ClassVar = RewardConfig
    def __init__(self, config):
        self.terms = {"geodesic": Geo()}
        self.weights_by_kind = {"geodesic": 1.0}
    @property
    def geodesic(self): return "geodesic", self.terms["geodesic"]
    def total(self, values, gated): return 0.0 if gated else values["geodesic"]
    def __call__(self, text, sample):
        t = {"geodesic": self.terms["geodesic"](text, sample)}
        return Scored(t, t["geodesic"].value, False)
    def check(self, sample): self.terms["geodesic"].truth(sample)
    def note(self, figures): pass
    def state(self): return {}
    def load_state(self, state): pass
