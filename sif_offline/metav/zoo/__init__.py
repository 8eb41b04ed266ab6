"""The zoo: an owner, what thieves made of it, and models that have nothing to do with it."""

from sif_offline.metav.zoo.building import ZooProgress, build_zoo
from sif_offline.metav.zoo.model import ZooModel
from sif_offline.metav.zoo.plan import Member, ZooSize, plan_zoo
from sif_offline.metav.zoo.recipe import Recipe
from sif_offline.metav.zoo.store import Zoo, ZooError, load_model, read_zoo

__all__ = [
    "Member",
    "Recipe",
    "Zoo",
    "ZooError",
    "ZooModel",
    "ZooProgress",
    "ZooSize",
    "build_zoo",
    "load_model",
    "plan_zoo",
    "read_zoo",
]
