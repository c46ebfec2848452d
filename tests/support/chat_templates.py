"""Chat templates of the shape that each family's published checkpoints have: roles, blanks, line ends, default system prompts.

Written for these tests; a published template does more (tools, videos, several turns).
"""

from __future__ import annotations

PARTS = (
    "{%- macro say(content, picture) %}{% if content is string %}{{ content }}{% else %}{% for part in content %}"
    "{% if part['type'] == 'image' %}{{ picture }}{% else %}{{ part['text'] }}{% endif %}{% endfor %}{% endif %}{% endmacro -%}"
)


def chatml(picture: str = "", system: str = "", first: str = "") -> str:
    """ChatML; with `system`, a conversation without a system message gets that one (Qwen2, Qwen2-VL, SmolLM2)."""
    default = "{% if loop.first and m['role'] != 'system' %}<|im_start|>system\n" + system + "<|im_end|>\n{% endif %}" if system else ""
    return (
        f"{PARTS}{first}{{% for m in messages %}}{default}<|im_start|>{{{{ m['role'] }}}}\n{{{{ say(m['content'], {picture!r}) }}}}"
        "<|im_end|>\n"
        "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )


SMOLVLM = (
    "<|im_start|>{% for m in messages %}{{ m['role'] | capitalize }}{% if m['content'][0]['type'] == 'image' %}:{% else %}: {% endif %}"
    "{% for part in m['content'] %}{% if part['type'] == 'image' %}<image>{% else %}{{ part['text'] }}{% endif %}{% endfor %}"
    "<end_of_utterance>\n{% endfor %}{% if add_generation_prompt %}Assistant:{% endif %}"
)
LLAVA = (
    "{% for m in messages %}{{ m['role'].upper() }}: {% for part in m['content'] %}"
    "{% if part['type'] == 'image' %}<image>\n{% else %}{{ part['text'] }}{% endif %}{% endfor %}"
    "{% if m['role'] == 'assistant' %}<eos>{% else %} {% endif %}{% endfor %}{% if add_generation_prompt %}ASSISTANT:{% endif %}"
)
LLAVA_ONEVISION = (  # as published: "assistant \n" before an answer in a conversation, "assistant\n" in a prompt
    "{% for m in messages %}<|im_start|>{{ m['role'] }} {% for part in m['content'] if part['type'] == 'image' %}<image>{% endfor %}"
    "{% for part in m['content'] if part['type'] == 'text' %}{{ '\n' + part['text'] }}{% endfor %}<|im_end|>{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
INTERNVL = chatml("<IMG_CONTEXT>\n")
QWEN2 = chatml(system="You are a helpful assistant.")
SMOLLM2 = chatml(system="You are a helpful AI assistant named SmolLM.")
QWEN2_VL = chatml("<|vision_start|><|image_pad|><|vision_end|>", system="You are a helpful assistant.")
QWEN3_VL = chatml("<|vision_start|><|image_pad|><|vision_end|>")
LFM2_VL = chatml("<image>", first="<|startoftext|>")
QWEN3 = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{% if m['role'] == 'assistant' and loop.last %}"
    "{{ '<think>\n\n</think>\n\n' }}{% endif %}{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% if enable_thinking is defined and enable_thinking is false %}"
    "{{ '<think>\n\n</think>\n\n' }}{% endif %}{% endif %}"
)
LLAMA3 = (
    "{{ bos_token }}<|start_header_id|>system<|end_header_id|>\n\nToday Date: {% if date_string is defined %}{{ date_string }}"
    "{% else %}{{ strftime_now('%d %b %Y') }}{% endif %}\n\n{% if messages[0]['role'] == 'system' %}{{ messages[0]['content'] | trim }}"
    "{% endif %}<|eot_id|>{% for m in messages if m['role'] != 'system' %}<|start_header_id|>{{ m['role'] }}<|end_header_id|>\n\n"
    "{{ m['content'] | trim }}<|eot_id|>{% endfor %}{% if add_generation_prompt %}"
    "{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"
)
GEMMA3 = (
    PARTS + "{{ bos_token }}{% for m in messages %}"
    "{% if m['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    "<start_of_turn>{{ 'model' if m['role'] == 'assistant' else m['role'] }}\n{{ say(m['content'], '<start_of_image>') | trim }}"
    "<end_of_turn>\n{% endfor %}{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}"
)
PALIGEMMA = PARTS + "{% for m in messages %}{{ say(m['content'], '<image>') }}{% if m['role'] == 'assistant' %}<eos>{% endif %}{% endfor %}"
QWEN3_5 = (  # the block of thinking is open in a prompt unless it is closed
    PARTS
    + "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{% if m['role'] == 'assistant' and loop.last %}{{ '<think>\n\n</think>\n\n' }}"
    "{% endif %}{{ say(m['content'], '<|vision_start|><|image_pad|><|vision_end|>') }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% if enable_thinking is defined and enable_thinking is false %}"
    "{{ '<think>\n\n</think>\n\n' }}{% else %}{{ '<think>\n' }}{% endif %}{% endif %}"
)
GEMMA4 = (
    PARTS + "{{ bos_token }}{% for m in messages %}<|turn>{{ 'model' if m['role'] == 'assistant' else m['role'] }}\n"
    "{{ say(m['content'], '<|image|>') | trim }}<turn|>\n{% endfor %}{% if add_generation_prompt %}{{ '<|turn>model\n' }}{% endif %}"
)
GRANITE = (
    PARTS + "{% for m in messages %}<|start_of_role|>{{ m['role'] }}<|end_of_role|>{{ say(m['content'], '<image>') }}<|end_of_text|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|start_of_role|>assistant<|end_of_role|>{% endif %}"
)
