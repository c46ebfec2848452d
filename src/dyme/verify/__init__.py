"""Stage 3: rules that turn a group's completions into verdicts (paper, section 3.2), without torch and without a judge model.

`answers` compares a predicted answer with the right one, by a verifier for each kind of answer (auto, number, text, yes_no, choice,
letter, list, math, open, vqa); `format` splits a completion into thinking and answer, `thinking` compares a trace with
facts, and `rules` combines the three. `worker` keeps the process that does algebra.
"""
