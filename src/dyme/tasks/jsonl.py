"""Your own data: questions, answers and pictures, in files of any of the usual shapes (docs/data.md has an example of each).

One row of train.jsonl, on one line in the file:

    {"id": "till-7", "image": "images/till_7.png", "question": "What does the jam cost?", "answer": "3.20", "kind": "read",
     "facts": {"tea": "1.80", "jam": "3.20"}, "rationale": "The receipt lists jam at 3.20."}

question     required text
answer       required text or number
image        path of a picture, relative to the JSON-lines file's folder or absolute; images: a list of them; neither: text only
rationale    a reference thinking trace without the answer marker, if you have one
facts        what the picture shows: {name: value, ...}, [[name, value], ...] or [{"subject": name, "value": value}, ...]
choices      the options of a multiple-choice question, a list of 2 to 26 texts: the prompt shows them as (A), (B), ...; `answer`
             is then the text of one, or its letter
answers      a list of all annotators' texts, with repeats, where there are several (`answer`: the commonest unless given)
answer_kind  how an answer is compared: auto (a number, a list or a text, whichever it is), number, text, yes_no, choice, letter (of a
             choice that the picture shows), list, math, open (words recalled), vqa (soft accuracy over `answers`); choice for rows
             with choices, vqa for rows with answers, else auto unless given
unit         the unit that an answer may carry
kind         question type, for breakdowns
id           text or number, unique in the file; by default the file's name and the line, "train:12"

Fields under other usual names are read too, with a note: options or columns A, B, C for choices; solution, reasoning, explanation ...
for the rationale; query, problem, prompt for the question; file_name for the image (`data/fields.py`). TRL's, LLaVA's and ShareGPT's
turns are read (`conversations.py`). Other fields are ignored; a name close to one of these is reported, and a field that names the
picture of a row without `image` is an error. null is the same as leaving a field out. Surrounding white space is removed from texts,
and placeholders of pictures (<image>) become words (`placeholders.py`).

Name the files by task.train, task.validation and task.test, or their folder by task.path; without a validation file the last tenth of
the training file is used. They may be JSON lines, a JSON list, CSV, TSV, parquet, an imagefolder, or a hub id; parquet and files with
pictures in their rows are prepared once.

Licence: your data's. Metric: by answer_kind; auto: exact match, numbers but years within 5 %, as ChartQA's relaxed accuracy (Masry
et al., 2022); number: exact, for counts.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dyme.config import TaskConfig
from dyme.data import fields
from dyme.data.published import Published
from dyme.data.splits import loader
from dyme.tasks.task import Task


def normalise(row: Mapping[str, Any], where: str, config: TaskConfig) -> dict[str, Any]:
    """Return the row in the fields above, also from other usual names (`data/fields.py`)."""
    return fields.ours(row, where, config.marker)


PUBLISHED = Published(normalise=normalise, direct=True)
TASK = Task(
    name="jsonl",
    summary="your own questions, with or without pictures: JSON lines, CSV, parquet ... (task.train and task.test, or task.path)",
    metric="by answer kind; exact match, numbers within 5 %",
    tolerance=0.05,
    load=loader(PUBLISHED),
    status="real rows",
    published=PUBLISHED,
)
