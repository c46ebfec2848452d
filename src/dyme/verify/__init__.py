"""Stage 3: rules that turn a group's completions into verdicts (paper, section 3.2), free of torch and of any judge model.

`answer` compares a predicted answer with the right one, `format` splits a completion into thinking and answer, `thinking` holds
a trace against facts, and `rules` puts the three together.
"""
