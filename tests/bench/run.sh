#!/usr/bin/env bash
# Speed, as ratios measured in this run. PEERS=PYTHON (with torch, transformers, gguf; transformer_lens for one line)
# does the same work there. Knobs: MODEL, FACTS (JSON Lines), N (prompts), REPEATS.
set -eu
cd "$(dirname "$0")/../.."
build=${BUILD:-build} strata=$(realpath "${STRATA:-build/strata}")
model=${MODEL:-data/models/SmolLM2-135M-Instruct.Q4_1.gguf}
n=${N:-1000} repeats=${REPEATS:-3} threads=$(nproc)
[ -e "$model" ] || { echo "bench: $model is missing: make demo fetches it, or set MODEL" >&2; exit 1; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
facts=$work/facts.jsonl
if [ -n "${FACTS:-}" ]; then cp "$FACTS" "$facts"; else cat data/facts/*.jsonl >"$facts"; fi

measure() { python3 tests/bench/measure.py "$@"; }
calc() { awk "BEGIN { printf \"$1\", $2 }"; }
row() { printf '  %-52s %s\n' "$1" "$2"; }
# The last line of a peer's output: prompts, tokens, seconds.
peer() { HF_HUB_OFFLINE=1 "$PEERS" tests/bench/peers.py "$@" 2>/dev/null | tail -n 1; }

echo "machine: $(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1), $threads cores; $("$strata" --version | tr '\n' ' ')"
echo "model: $(basename "$model"); $n prompts of $(basename "${FACTS:-data/facts}")"

peak=$("$build/tests/bench/sgemm_peak" "$threads" 512 1536 576 2)
read -r prompts tokens seconds gflops < <("$build/tests/bench/forward" "$model" "$facts" "$n" "$threads" "$repeats")
echo; echo "forward pass"
row "sgemm, one one-thread loop a core" "$peak GF/s"
row "forward on batches, $tokens tokens" "$(calc '%.0f tokens/s, %.1f GF/s = %.0f %% of sgemm' "$tokens/$seconds, $gflops, 100*$gflops/$peak")"

weights=$("$strata" info "$model" --json | python3 -c 'import json, sys; print(round(json.load(sys.stdin)["weight_bytes"] / 1048576))')
report_memory() { row "peak memory of $1" "$2 MB = fp32 weights ($weights MB) + $(($2 - weights)) MB"; }

echo; echo "logit lens, whole process"
read -r last_s last_mb < <(measure "$repeats" "$strata" lens -m "$model" -i "$facts" --limit "$n" -o "$work/last{}.h5" --quiet)
row "last position, every depth, $n prompts" "$(calc '%.2f s, %.1f prompts/s' "$last_s, $n/$last_s")"
all=$((n / 10))
read -r all_s all_mb < <(measure "$repeats" "$strata" lens -m "$model" -i "$facts" --limit $all --positions all -o "$work/all{}.h5" --quiet)
all_tokens=$("$build/tests/bench/forward" "$model" "$facts" $all "$threads" 1 | cut -d' ' -f2)
row "every position, every depth, $all_tokens tokens" "$(calc '%.2f s, %.1f tokens/s' "$all_s, $all_tokens/$all_s")"
report_memory "the lens" "$(printf '%s\n' "$last_mb" "$all_mb" | sort -n | tail -n 1)"

echo; echo "one fact, cold: process start to files written, plots aside"
read -r cold_s cold_mb < <(measure $((3 * repeats)) "$strata" trace -m "$model" "The Eiffel Tower is located in the city of" \
    --subject "Eiffel Tower" --answer Paris -o "$work/trace" --no-stages --no-plots --quiet)
row "strata trace" "$cold_s s"
report_memory "the trace" "$cold_mb"

echo; echo "facts: three stages (knockout, enrichment, extraction, heads) of the known ones, whole process, once"
stage_facts=${STAGE_FACTS:-600}
shuf -n "$stage_facts" --random-source=<(yes) "$facts" >"$work/some.jsonl"
read -r stages_s stages_mb < <(measure 1 "$strata" trace -m "$model" -i "$work/some.jsonl" -o "$work/stages" --no-plots --quiet)
known=$(($(wc -l <"$work/stages/facts.csv") - 1))
row "strata trace -i, $known known of $stage_facts facts" "$(calc '%.1f s = %.0f s for 600 known ones' "$stages_s, 600*$stages_s/$known")"
report_memory "the stages" "$stages_mb"

echo; echo "dump of every residual site and z, $n prompts, whole process"
read -r forward_s _ < <(measure "$repeats" "$build/tests/bench/forward" "$model" "$facts" "$n" "$threads" 1)
read -r dump_s dump_mb < <(measure "$repeats" "$strata" dump -m "$model" -i "$facts" --limit "$n" -o "$work/dump{}.h5" \
    --sites 'blocks.*.hook_resid_*,blocks.*.attn.hook_z' --quiet)
row "forward pass alone" "$forward_s s"
row "dump" "$(calc '%.2f s = %+.0f %%, %.0f MB/s' "$dump_s, 100*($dump_s/$forward_s-1), $(stat -c %s "$work/dump0.h5")/1048576/$dump_s")"
report_memory "the dump" "$dump_mb"
rm -f "$work"/dump*.h5

echo; echo "interventions, seconds a fact without load (three facts of 9 to 10 tokens)"
declare -A own
for task in knockout heads causal; do
    own[$task]=$("$build/tests/bench/interventions" $task "$model" tests/bench/facts.jsonl "$threads")
done
row "knockout, every window x 3 key sets" "${own[knockout]} s"
row "every head off at the last token" "${own[heads]} s"
row "causal tracing, every token x layer x 10 samples" "${own[causal]} s"

[ -n "${PEERS:-}" ] || exit 0
echo; echo "PyTorch: $("$PEERS" -c 'import torch, transformers; print("torch", torch.__version__, "transformers", transformers.__version__, "threads", torch.get_num_threads())')"
hf=$build/bench/hf
mkdir -p "$hf"
"$PEERS" tests/bench/peers.py convert "$model" "$hf" >/dev/null 2>&1
read -r _ t s < <(peer forward "$hf" "$facts" "$n")
row "forward, batches sorted by length" "$(calc '%.0f tokens/s: Strata %.2f times as fast' "$t/$s, $s/$seconds")"
read -r _ _ s < <(peer last "$hf" "$facts" "$n")
row "lens, last position, batched, without load" "$(calc '%.1f prompts/s: Strata %.2f times as fast' "$n/$s, $s/$last_s")"
read -r _ t s < <(peer all "$hf" "$facts" $all)
row "lens, every position, batched, without load" "$(calc '%.1f tokens/s: Strata %.2f times as fast' "$t/$s, $s/$all_s")"
echo '{"prompt": "The Eiffel Tower is located in the city of", "answer": "Paris"}' >"$work/one.jsonl"
read -r s _ < <(HF_HUB_OFFLINE=1 measure "$repeats" "$PEERS" tests/bench/peers.py cold "$hf" "$work/one.jsonl" 1)
row "one fact, cold script" "$(calc '%.2f s: Strata %.1f times as fast' "$s, $s/$cold_s")"
if "$PEERS" -c 'import transformer_lens' 2>/dev/null; then
    read -r p _ s < <(peer documented "$hf" "$facts" $((n / 20)))
    row "TransformerLens as documented, without load" "$(calc '%.1f prompts/s: Strata %.1f times as fast' "$p/$s, $s/$p/($last_s/$n)")"
fi
for task in knockout heads causal; do
    s=$(HF_HUB_OFFLINE=1 "$PEERS" tests/bench/peers_interventions.py $task "$hf" tests/bench/facts.jsonl 2>/dev/null | tail -n 1)
    row "$task, batched reruns, a fact" "$(calc '%.2f s: Strata %.1f times as fast' "$s, $s/${own[$task]}")"
done
