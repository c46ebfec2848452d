"""TRL's accuracy reward on mathematics, on DyME: the import of the trainer differs, and `trace` names the worked solutions to memorize.

python examples/trl/accuracy.py [MODEL] [OUTPUT]
"""

import sys
from functools import partial

from datasets import Dataset
from trl import GRPOConfig
from trl.rewards import accuracy_reward

from dyme.integrations.trl import DyMETrainer

GRPOTrainer = partial(DyMETrainer, trace="worked")


def rows():
    """Return sums, each with its answer for the reward and a worked solution for DyME."""
    for a, b in ((3, 4), (12, 7), (8, 15), (21, 9), (30, 14), (6, 6), (17, 5), (11, 22)):
        yield {
            "prompt": [{"role": "user", "content": f"What is {a} + {b}? Put the answer into \\boxed{{}}."}],
            "solution": f"${a + b}$",
            "worked": f"{a} and {b} make {a + b}, so the answer is \\boxed{{{a + b}}}.",
        }


def main(model="Qwen/Qwen2.5-0.5B-Instruct", output="runs/trl-accuracy", **given):
    """Train on messages, with a column for the reward."""
    trainer = GRPOTrainer(
        model=model,
        reward_funcs=accuracy_reward,
        args=GRPOConfig(output_dir=output, **given),
        train_dataset=Dataset.from_list(list(rows())),
    )
    trainer.train()
    return trainer


if __name__ == "__main__":
    main(*sys.argv[1:])
