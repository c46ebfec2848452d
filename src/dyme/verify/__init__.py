"""Stage 3: rules that turn a group's completions into verdicts (paper, section 3.2), free of torch and of any judge model.

`answer` compares a predicted answer with the right one, by a verifier for each kind of answer (auto, quantity, text, yes_no, choice,
items, equivalence, recall, annotators); `format` splits a completion into thinking and answer, `thinking` holds a trace against
facts, and `rules` puts the three together. `worker` keeps the process that does algebra.
"""
