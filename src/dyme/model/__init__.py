"""One checkpoint of any family: found and opened, adapted, its chat template, its picture sizes, its tower and its attention.

`loading` opens it, `adapters` adds, counts and saves LoRA, `merging` merges adapters of other kinds, `chat` renders prompts and finds
the end token, `resolution` sets the size of pictures, `vision` keeps the outputs of a frozen tower, and `attention` lets branches share
a trunk. `dyme.model.policy` combines them.
"""
