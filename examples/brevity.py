"""A reward for short thinking: 1 up to ten words, then less, 0 from sixty; 0 for a completion outside the format.

dyme train charts-dyme --reward.functions examples/brevity.py:brief --reward.weights 0.5
"""


def brief(completion, sample, verdict):
    return min(1.0, max(0.0, (60 - len(verdict.thinking.split())) / 50)) if verdict.parsed else 0.0
