#!/usr/bin/env bash
# Everything that wants a GPU, on one GPU, in at most eight minutes: correctness in bf16, a step's time and MFU beside TRL's, the largest K.
#
#     benchmarks/gpu.sh [JSON]                                     LLaVA-OneVision-0.5B's and SmolVLM-500M's shapes
#     VLLM_PYTHON=build/vllm/bin/python benchmarks/gpu.sh          TRL's step with vLLM too; that environment needs vLLM alone
#     DEVICE=cpu SHAPES="tiny smoltiny" benchmarks/gpu.sh          does it run? on a CPU, with a minute of its time
#
# Weights are random; nothing is downloaded. PYTHON names the project's interpreter, SECONDS_IN_ALL the time (480). A part that fails or
# runs out of its time is noted in the JSON or in the log and costs the others nothing.
set -u
cd "$(dirname "$0")/.."
JSON=${1:-out/gpu.json}
PYTHON=${PYTHON:-$([ -x .venv/bin/python ] && echo .venv/bin/python || echo python)}
DEVICE=${DEVICE:-cuda}
SHAPES=${SHAPES:-reference smolvlm}
END=$(($(date +%s) + ${SECONDS_IN_ALL:-480}))
export HF_HUB_OFFLINE=1 TOKENIZERS_PARALLELISM=false
SMALL=$([ "$DEVICE" = cpu ] && echo "--prompts 2 --num_generations 4 --new_tokens 9 --repeats 1" || echo "")
rm -f "$JSON"

# part MOST COMMAND...: run a command for at most so many seconds, and no longer than there is time for all.
part() {
    local most=$1 left=$((END - $(date +%s)))
    shift
    [ "$left" -lt 5 ] && { echo "no time left for: $*" >&2; return 1; }
    timeout "$((most < left ? most : left))" "$@" || { echo "failed or out of time: $*" >&2; return 1; }
}

for shape in $SHAPES; do
    part 100 "$PYTHON" benchmarks/gpu.py correct --shape "$shape" --device "$DEVICE" --json "$JSON" $SMALL
    part 150 "$PYTHON" benchmarks/gpu.py step --shape "$shape" --device "$DEVICE" --json "$JSON" $SMALL
done
for shape in $SHAPES; do
    part 75 "$PYTHON" benchmarks/gpu.py largest --shape "$shape" --device "$DEVICE" --json "$JSON" $SMALL
    if [ -n "${VLLM_PYTHON:-}" ]; then
        folder=$(mktemp -d)
        "$PYTHON" benchmarks/gpu.py export --shape "$shape" --folder "$folder" $SMALL
        seconds=$(part 120 "$VLLM_PYTHON" benchmarks/gpu_vllm.py "$folder" | tail -1) &&
            "$PYTHON" benchmarks/gpu.py vllm --shape "$shape" --json "$JSON" --seconds "$seconds"
        rm -rf "$folder"
    fi
done
echo "figures: $JSON"
