#!/usr/bin/env bash
# Fuzzes every target of fuzz/ for its share of SECONDS (default 240), starting from the committed corpus.
# Inputs that the fuzzer keeps stay in fuzz/corpus/<target>/ under names git ignores; a crash goes to
# fuzz/artifacts/<target>/ and ends the run with an error.
# Usage: scripts/fuzz.sh [SECONDS [TARGET...]]
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
seconds=${1:-240}
shift || true

# Ten programs, each linked with optimisation across crates, would take longer to build than they run.
export CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_PANIC=unwind
# The stable compiler takes the sanitizer flags of cargo-fuzz when told to.
export RUSTC_BOOTSTRAP=1
command -v cargo-fuzz >/dev/null || cargo install --locked cargo-fuzz
target_dir=${CARGO_TARGET_DIR:-target}/fuzz
options=(--fuzz-dir fuzz --target-dir "$target_dir" --features libfuzzer)

if [ $# -gt 0 ]; then
    targets=("$@")
else
    mapfile -t targets < <(cargo fuzz list --fuzz-dir fuzz)
fi
[ ${#targets[@]} -gt 0 ] || { echo "fuzz: no targets" >&2; exit 1; }
share=$((seconds / ${#targets[@]}))
[ "$share" -gt 0 ] || share=1

log=$(mktemp)
trap 'rm -f "$log"' EXIT
cargo fuzz build "${options[@]}"
for target in "${targets[@]}"; do
    # -timeout and -rss_limit_mb make an endless loop or a greedy allocation a crash like any other.
    if ! cargo fuzz run "${options[@]}" "$target" -- \
        -max_total_time="$share" -timeout=10 -rss_limit_mb=2048 -max_len=65536 -print_final_stats=1 \
        >"$log" 2>&1 </dev/null; then
        tail -n 100 "$log" >&2
        echo "fuzz: $target failed" >&2
        exit 1
    fi
    runs=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")
    [ "${runs:-0}" -gt 0 ] || { tail -n 100 "$log" >&2; echo "fuzz: $target ran no input" >&2; exit 1; }
    echo "fuzz: $target: $runs inputs in $share s, no crash"
done
