#!/usr/bin/env bash
# The whole gate, as CI runs it: format, lints, dependencies, all tests with real etcd servers as oracles,
# doc tests, docs, replay of the fuzz corpora and four minutes of fuzzing. Installs the tools it lacks.
# Usage: scripts/test.sh [--quick]      --quick leaves the fuzzing out; the corpora are replayed all the same.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
quick=no
case "${1:-}" in
    '') ;;
    --quick) quick=yes ;;
    *) echo "usage: scripts/test.sh [--quick]" >&2; exit 2 ;;
esac

exec </dev/null
export CI=true CARGO_TERM_COLOR=never
export PATH=${CARGO_HOME:-$HOME/.cargo}/bin:$PATH
# The dice of the property tests fall the same way each time, so that red tells of the change. scripts/soak.sh throws new ones.
export PROPTEST_RNG_SEED=${PROPTEST_RNG_SEED:-20261122}
# Everything started below carries this mark, also servers that outlive a test which was killed.
export RESCUE_TEST_RUN=$$-$RANDOM$RANDOM
log=$(mktemp)

leftovers() {
    local environ pid
    for environ in /proc/[0-9]*/environ; do
        pid=${environ#/proc/}
        pid=${pid%/environ}
        [ "$pid" != "$$" ] && [ "$pid" != "$BASHPID" ] || continue
        if { tr '\0' '\n' <"$environ" | grep -qx "RESCUE_TEST_RUN=$RESCUE_TEST_RUN"; } 2>/dev/null; then
            echo "test: killing a leftover: $pid $(tr '\0' ' ' <"/proc/$pid/cmdline" 2>/dev/null || true)" >&2
            kill -KILL "$pid" 2>/dev/null || true
        fi
    done
}
trap 'leftovers; rm -f "$log"' EXIT
trap 'exit 130' INT TERM

# What is left for what is built: a full disk fails tests that have nothing to do with it.
free_gib() { df --output=avail -BG . | tail -1 | tr -dc 0-9; }

step() { # NAME COMMAND...
    local name=$1 started=$SECONDS
    shift
    echo "== $name"
    "$@" || { local code=$?; echo "== $name failed ($code)" >&2; exit "$code"; }
    echo "== $name: $((SECONDS - started)) s, $(free_gib) GiB free"
}

# Tools that wait for others most of their time are compiled as fast as can be.
tool() { # CRATE
    command -v "$1" >/dev/null || CARGO_PROFILE_RELEASE_OPT_LEVEL=0 CARGO_PROFILE_RELEASE_LTO=off \
        CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16 cargo install --locked "$1"
}

tests() {
    cargo nextest run --locked --workspace --run-ignored all 2>&1 | tee "$log"
}

# One waits for the network, the other for the compiler.
scripts/install-oracles.sh >"$log" 2>&1 &
oracles=$!
for crate in cargo-nextest cargo-deny cargo-fuzz; do
    step "$crate" tool "$crate"
done
installed() { wait "$oracles" || { local code=$?; cat "$log"; return "$code"; }; cat "$log"; }
step oracles installed
step format cargo fmt --all --check
step dependencies cargo deny check bans licenses sources
step lints cargo clippy --locked --workspace --all-targets -- -D warnings
step docs env RUSTDOCFLAGS=-Dwarnings cargo doc --locked --no-deps --workspace
step tests tests
step "doc tests" cargo test --locked --doc --workspace
[ $quick = yes ] || step fuzzing scripts/fuzz.sh 240

echo "== all steps passed in $SECONDS s; the test runner's closing lines:"
sed -n '/^ *Summary \[/,$p' "$log"
