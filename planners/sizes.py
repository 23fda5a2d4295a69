"""Named sizes of plans for a machine without a GPU."""

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Size:
    """What plans are shrunk to, those of every planner alike, so that results can still be compared.

    Args:
        name: of the option that asks for it
        purpose: what it is for, in words
        divide_features: the width is divided by this
        stages: resolutions, at most
        patch: pixels a side in the plane, at most, but for stages whose patch must show the whole heart
        batch_2d, batch_3d: samples in a batch
    """

    name: str
    purpose: str
    divide_features: int
    stages: int
    patch: int
    batch_2d: int
    batch_3d: int

    def __str__(self) -> str:
        width = {2: "half", 4: "a quarter of"}.get(self.divide_features, f"1/{self.divide_features} of")
        return (
            f"{width} the width, at most {self.stages} resolutions, patches of at most {self.patch} pixels a side "
            f"(more where a stage must see the whole heart), batches of {self.batch_2d} (3D: {self.batch_3d})"
        )

    @property
    def option(self) -> str:
        """That asks for it."""
        return f"--{self.name} {self.patch}"

    def with_patch(self, patch: int) -> "Size":
        """The same with other patches."""
        return replace(self, patch=patch)

    def plans_name(self, plans: str) -> str:
        """A name of their own for shrunk plans, so that they never replace real ones."""
        return prefixed(f"{self.name.capitalize()}{self.patch}", plans)


def prefixed(word: str, plans: str) -> str:
    """A name for plans that differ from ``plans`` in what ``word`` says."""
    return plans.replace("nnUNet", f"nnUNet{word}", 1) if "nnUNet" in plans else word + plans


SIZES = {
    size.name: size
    for size in (
        Size("small", "minutes, to see that it works", divide_features=4, stages=4, patch=128, batch_2d=8, batch_3d=2),
        Size(  # patch, batch and resolutions: docs/planning.md, what was tried
            "half", "an hour, to see how well it works", divide_features=2, stages=5, patch=128, batch_2d=4, batch_3d=2
        ),
    )
}
