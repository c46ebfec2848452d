"""A method that remembers: a prompt is memorized once it has been all wrong twice in a row, and explored until then.

dyme train charts-dyme --method.name examples/patient.py:METHOD
"""

from collections.abc import Sequence

from dyme.methods import Context, Method, NoSettings, Stage
from dyme.methods.routes import explore, memorize
from dyme.types import Group, Route


def patient(group: Group, context: Context[NoSettings]) -> Route:
    """Memorize if this visit is all wrong, and the one before it was."""
    if group.solved == 0 and group.sample.id in context.state:
        return memorize(group, context, "all wrong twice in a row")
    return explore(group, context)


def remember(groups: Sequence[Group], routes: Sequence[Route], context: Context[NoSettings]) -> list[str]:
    """The prompts that were all wrong on their last visit."""
    visited = {group.sample.id for group in groups}
    return [name for name in context.state if name not in visited] + [group.sample.id for group in groups if group.solved == 0]


METHOD = Method(
    name="patient", summary="memorize what was all wrong twice in a row, else explore", source="an example",
    stages=lambda own: (Stage(name="patient", route=patient, rolls_out=True, imitates=True),),
    first_state=lambda own: [], next_state=remember,
)  # fmt: skip
