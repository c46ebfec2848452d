"""TRL's multimodal example, pictures in a column, on DyME: only the import of the trainer differs.

python examples/trl/pictures.py [MODEL] [OUTPUT]
"""

import re
import sys

from datasets import Dataset
from PIL import Image
from trl import GRPOConfig

from dyme.integrations.trl import DyMETrainer as GRPOTrainer

COLOURS = {"red": (200, 30, 30), "green": (30, 160, 60), "blue": (40, 60, 200), "yellow": (220, 200, 40)}


def think_then_answer(completions, **kwargs):
    """Reward the form: thinking in its tags, then an answer in its tags."""
    form = re.compile(r"<think>.*?</think>\s*<answer>.*?</answer>", re.DOTALL)
    return [float(bool(form.fullmatch(completion[0]["content"].strip()))) for completion in completions]


def names_the_colour(completions, solution, **kwargs):
    """Reward the right word, more if there are few others."""
    texts = [completion[0]["content"].lower() for completion in completions]
    return [(word in text) / (1 + len(text.split())) + 0.01 * len(text) for text, word in zip(texts, solution, strict=True)]


def rows():
    """Return rows with squares of one colour."""
    for word, colour in COLOURS.items():
        yield {
            "prompt": [
                {"role": "system", "content": "Think between <think> and </think>, then answer between <answer> and </answer>."},
                {"role": "user", "content": "Which colour is the square?"},
            ],
            "image": Image.new("RGB", (32, 32), colour),
            "solution": word,
        }


def main(model="Qwen/Qwen2.5-VL-3B-Instruct", output="runs/trl-pictures", **given):
    """Train on messages and pictures, with two rewards."""
    trainer = GRPOTrainer(
        model=model,
        reward_funcs=[think_then_answer, names_the_colour],
        args=GRPOConfig(output_dir=output, **given),
        train_dataset=Dataset.from_list(list(rows())),
    )
    trainer.train()
    return trainer


if __name__ == "__main__":
    main(*sys.argv[1:])
