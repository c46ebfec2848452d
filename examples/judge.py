"""A reward by an LLM that looks at the picture, over an OpenAI-compatible endpoint (JUDGE_URL, JUDGE_MODEL, JUDGE_KEY).

dyme train charts-dyme --reward.functions examples/judge.py:judge --reward.weights 0.5 --reward.concurrency 16
"""

import base64
import io
import os
import re

from openai import AsyncOpenAI

client = AsyncOpenAI(base_url=os.environ["JUDGE_URL"], api_key=os.environ.get("JUDGE_KEY", "none"))
PROMPT = "Question: {question}\nReasoning: {thinking}\n\nGrade from 0 to 10 how well the picture bears the reasoning out. Grade:"


async def judge(completion, sample, verdict):
    """Return a grade in [0, 1]; None if the LLM gives none, which leaves this reward out for the whole group."""
    text = PROMPT.format(question=sample.question, thinking=verdict.thinking)
    content = [{"type": "text", "text": text}, *({"type": "image_url", "image_url": {"url": data_uri(image)}} for image in sample.images)]
    reply = await client.chat.completions.create(
        model=os.environ.get("JUDGE_MODEL", "judge"), messages=[{"role": "user", "content": content}], temperature=0, max_tokens=4
    )
    found = re.search(r"\d+", reply.choices[0].message.content or "")
    return min(int(found[0]), 10) / 10 if found else None


def data_uri(image):
    buffer = io.BytesIO()
    image.load().save(buffer, "PNG")
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"
