"""One checkpoint of any family: found and opened, adapted, its chat template, its picture sizes, its tower and its attention.

`loading` opens it, `adapters` adds, counts and saves LoRA, `merging` takes in those of other kinds, `chat` renders prompts and knows
the end token, `resolution` sets how large pictures are, `vision` keeps what a frozen tower gave, and `attention` lets branches share
a trunk. `dyme.model.policy` is these in one.
"""
