"""A method with a state: a prompt is explored until it is all wrong twice in a row, then memorized.

dyme train charts-dyme --method.name examples/patient.py:METHOD
"""

from collections.abc import Sequence

from dyme.methods import Context, Method, NoSettings, Stage
from dyme.methods.routes import explore, memorize
from dyme.types import Group, Route


def patient(group: Group, context: Context[NoSettings]) -> Route:
    """Memorize if all completions are wrong at this visit and were at the one before."""
    if group.solved == 0 and group.sample.id in context.state:
        return memorize(group, context, "all wrong twice in a row")
    return explore(group, context)


def remember(groups: Sequence[Group], routes: Sequence[Route], context: Context[NoSettings]) -> list[str]:
    """Return the ids of the prompts that were all wrong at their last visit."""
    visited = {group.sample.id for group in groups}
    return [name for name in context.state if name not in visited] + [group.sample.id for group in groups if group.solved == 0]


METHOD = Method(
    name="patient", summary="memorize what was all wrong twice in a row, else explore", source="an example",
    stages=lambda own: (Stage(name="patient", route=patient, rolls_out=True, imitates=True),),
    first_state=lambda own: [], next_state=remember,
)  # fmt: skip
