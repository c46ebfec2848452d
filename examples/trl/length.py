"""TRL's quick start, a reward of the text alone, on DyME: only the import of the trainer differs.

python examples/trl/length.py [MODEL] [OUTPUT]
"""

import sys

from datasets import Dataset
from trl import GRPOConfig

from dyme.integrations.trl import DyMETrainer as GRPOTrainer

SUBJECTS = ("tea", "rain", "a bridge", "chess", "the moon", "bread", "a clock", "the sea")


def many_characters(completions, **kwargs):
    """Reward completions by how many different characters they have."""
    return [float(len(set(completion))) for completion in completions]


def main(model="Qwen/Qwen2.5-0.5B-Instruct", output="runs/trl-length", **given):
    """Train on prompts of plain text."""
    dataset = Dataset.from_dict({"prompt": [f"Write one sentence about {subject}." for subject in SUBJECTS]})
    trainer = GRPOTrainer(
        model=model,
        reward_funcs=many_characters,
        args=GRPOConfig(output_dir=output, **given),
        train_dataset=dataset,
    )
    trainer.train()
    trainer.save_model(output)
    return trainer


if __name__ == "__main__":
    main(*sys.argv[1:])
