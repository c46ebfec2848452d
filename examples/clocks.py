"""A user's task, with pictures drawn here and its own verifier: what time does the clock show?

dyme train charts-dyme --task.name examples/clocks.py:TASK
"""

import math
import random
import re

from PIL import Image, ImageDraw

from dyme import Fact, Sample, Task


def clock(hour, minute):
    image = Image.new("RGB", (96, 96), "white")
    draw = ImageDraw.Draw(image)
    draw.ellipse((4, 4, 92, 92), outline="black", width=2)
    for angle, length, width in ((math.radians(30 * hour + minute / 2), 22, 5), (math.radians(6 * minute), 38, 2)):
        draw.line((48, 48, 48 + length * math.sin(angle), 48 - length * math.cos(angle)), fill="black", width=width)
    return image


def load(config, split):
    rng = random.Random(f"{split}:{config.seed}")
    times = [(rng.randint(1, 12), rng.randrange(0, 60, 5)) for _ in range({"train": 400, "validation": 50, "test": 100}[split])]
    return [
        Sample(id=f"{split}/{k}", question="What time is it?", answer=f"{hour}:{minute:02}", images=[clock(hour, minute)],
               rationale=f"The short hand is past {hour}, the long hand at {minute} minutes.", facts=[Fact("hour", str(hour))])
        for k, (hour, minute) in enumerate(times)
    ]  # fmt: skip


def same_time(prediction, sample):
    found = re.fullmatch(r"(\d{1,2})\D{1,2}(\d\d)(?: ?[ap]\.?m\.?)?\.?", prediction.strip(), re.IGNORECASE)
    return found is not None and f"{(int(found[1]) - 1) % 12 + 1}:{found[2]}" == sample.answer


TASK = Task(name="clocks", load=load, summary="what time does the clock show?", verifier=same_time)
