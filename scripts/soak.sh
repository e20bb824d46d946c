#!/usr/bin/env bash
# The full numbers, once per issue and by hand: what the gate runs as samples runs here whole.
# Usage: scripts/soak.sh [--scale SIZE] [--dir DIR] [--only "crash judge log property keyspace replay recover salvage heap case fuzz bench"]
#   --scale  size of the big file whose heap is measured (default 8GiB); --dir where it goes (default target/soak)
# crash: the crash rig with all its kills at random moments (240) and at each call, faults at each call, and every size
# step of a full disk. judge: every seeded case of the independent
# judge. log: every row of the table of damage on every version's log, and 400 logs damaged at random for each installed server.
# property: the property tests of all libraries with twenty other seeds. keyspace: 3000 random histories
# on the installed servers, read, compacted and restored. replay: 3000 more, of every kind of request, killed, folded and
# booted. recover: 600 kills of three members under load, 200 for each version, recovered and held against the cluster itself. salvage: the damage laboratory,
# each damage a hundred times and all pairs of them on seven databases; prints the table of docs/salvage.md (ETCD_RESCUE_BLESS=1 writes it there). heap: status, save, restore, compact and defrag of a file of that size under a hard limit of 64 MiB and 32 bytes a distinct key.
# case: a case of ten million revisions with keys of 60 bytes, held to 120 bytes a revision, and how long each command takes; a second source of as many.
# fuzz: half an hour, shared among the targets. bench: scripts/bench-peers.sh at the size of the baseline.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
scale=8GiB dir=target/soak only='crash judge log property keyspace replay recover salvage heap case fuzz bench'
while [ $# -gt 0 ]; do
    case $1 in
        --scale|--dir|--only)
            [ $# -ge 2 ] || { echo "soak: $1 needs a value" >&2; exit 2; }
            declare "${1#--}=$2"
            shift ;;
        *) sed -n '2,/^set/{/^#/s/^# \{0,1\}//p}' "$0" >&2; exit 2 ;;
    esac
    shift
done
export PATH=${CARGO_HOME:-$HOME/.cargo}/bin:$PATH
export ETCD_RESCUE_SOAK=1
target=${CARGO_TARGET_DIR:-target}

part() { # NAME COMMAND...
    local name=$1 started=$SECONDS
    shift
    case " $only " in *" $name "*) ;; *) return 0 ;; esac
    echo "== $name"
    "$@"
    echo "== $name: passed in $((SECONDS - started)) s"
}

# Not nextest, whose time limit is for the gate's share.
crash() { cargo test --locked -p etcd-rescue --test rig --test crash -- --include-ignored --test-threads 2; }
judge() { cargo nextest run --locked -p etcd-rescue-bbolt --test oracle_judge --test oracle_judge_build --run-ignored all; }

log() {
    cargo test --locked -p etcd-rescue-snapshot --test boot_verdicts --test oracle_boot_claims -- --include-ignored --test-threads 2
    cargo test --locked -p etcd-rescue-testdata --test oracle_log_boots -- --include-ignored --test-threads 2
    cargo test --locked -p etcd-rescue --test log_damage -- --include-ignored
}

# A seed that finds something is told; PROPTEST_RNG_SEED=N has it again.
property() {
    local round
    for round in $(seq 20); do
        PROPTEST_RNG_SEED=$((RANDOM * 32768 + RANDOM)) property_once "$round"
    done
}

property_once() { # ROUND
    echo "property: round $1, PROPTEST_RNG_SEED=$PROPTEST_RNG_SEED"
    export PROPTEST_RNG_SEED
    cargo nextest run --locked --workspace -E 'not (binary(/^oracle_/) | package(etcd-rescue) | package(etcd-rescue-testdata))'
}

# ETCD_RESCUE_SEED=N does one history alone.
keyspace() { cargo test --locked -p etcd-rescue --test oracle_history -- --include-ignored --test-threads 2; }

# Its histories too, by the same variable.
replay() { cargo test --locked -p etcd-rescue --test oracle_replay -- --include-ignored --test-threads 2; }

# Its clusters too, by the same variable.
recover() { cargo test --locked -p etcd-rescue --test oracle_recover -- --include-ignored --test-threads 2; }

# ETCD_RESCUE_SEED=N has other dice.
salvage() { cargo test --locked -p etcd-rescue --test oracle_salvage -- --include-ignored --test-threads 2; }

# RLIMIT_DATA counts every private page that may be written, thread stacks and allocator slack included, and not the
# map of the file: an allocation beyond it fails, and so does the command. Stricter than measuring what was touched.
limited() { # BYTES COMMAND...
    local limit=$1
    shift
    local started=$EPOCHREALTIME
    prlimit --data="$limit" "$@" >/dev/null
    local ended=$EPOCHREALTIME
    printf 'heap: within %d bytes, %d ms: %s\n' "$limit" "$(( (${ended/./} - ${started/./}) / 1000 ))" "${*:2}"
}

heap() {
    local ours=$target/release/etcd-rescue file=$dir/big.db facts keys limit
    cargo build --locked --release -q -p etcd-rescue -p etcd-rescue-generate
    mkdir -p "$dir"
    rm -rf "${dir:?}"/{restored,saved.db,big.db}{,.etcd-rescue-partial,.*.etcd-rescue-partial}
    local started=$SECONDS
    facts=$("$target/release/etcd-rescue-generate" -w json --preset big --size "$scale" --trailer -o "$file")
    echo "heap: generated in $((SECONDS - started)) s: $facts"
    # Keys that are gone but have records are not counted, which makes the limit the stricter.
    keys=$(sed -n 's/.*"live_keys": *\([0-9]\+\).*/\1/p' <<<"$facts")
    limit=$((64 * 1024 * 1024 + 32 * keys))
    limited "$limit" "$ours" snapshot status "$file"
    limited "$limit" "$ours" snapshot status --skip-hash-check "$file"
    limited "$limit" "$ours" --io pread snapshot status --skip-hash-check "$file"
    limited "$limit" "$ours" snapshot save "$file" -o "$dir/saved.db"
    rm -f "$dir/saved.db"
    limited $((64 * 1024 * 1024)) "$ours" bbolt compact "$file" -o "$dir/saved.db"
    rm -f "$dir/saved.db"
    mkdir -p "$dir/restored/member/snap"
    cp "$file" "$dir/restored/member/snap/db"
    limited $((64 * 1024 * 1024)) "$ours" defrag --data-dir "$dir/restored"
    rm -rf "$dir/restored"
    limited "$limit" "$ours" snapshot restore "$file" --data-dir "$dir/restored"
    rm -rf "${dir:?}"/restored "$file"
}

# Its lines are what a file under benches/runs/ has; a time is never a failure.
took() { # WHAT COMMAND...
    local what=$1 started ended run times=()
    shift
    for run in $(seq 7); do
        started=$EPOCHREALTIME
        "$@" >/dev/null
        ended=$EPOCHREALTIME
        times+=("$(( ${ended/./} - ${started/./} ))")
        # What takes minutes is not done seven times.
        [ "${times[0]}" -lt 2000000 ] || break
    done
    printf 'case: %d us, median of %d: %s\n' \
        "$(printf '%s\n' "${times[@]}" | sort -n | sed -n "$(( (${#times[@]} + 1) / 2 ))p")" "${#times[@]}" "$what"
}

case_of_ten_million() {
    local ours=$target/release/etcd-rescue file=$dir/ten.db case=$dir/ten.case records=10000000 key bytes
    cargo build --locked --release -q -p etcd-rescue -p etcd-rescue-generate
    mkdir -p "$dir"
    rm -f "$file" "$case"{,.etcd-rescue-partial,.*.etcd-rescue-partial}
    "$target/release/etcd-rescue-generate" --quiet --seed 7 --revisions $records --txn-size 1 --key-shape sixty \
        --value-bytes 32..96 --value-mean 64 --delete-share 5 --live-share 30 -o "$file" >/dev/null
    cat "$file" >/dev/null
    "$ours" -q case new "$case" >/dev/null
    took "case add, $records revisions" "$ours" -q case add "$case" "a=$file"
    bytes=$(stat -c %s "$case")
    echo "case: $bytes bytes, $((bytes / records)) a revision"
    [ $((bytes / records)) -le 120 ] || { echo "case: more than 120 bytes a revision" >&2; return 1; }
    key=$("$ours" -q case timeline "$case" --from-rev 5000000 --to-rev 5000000 -w json | sed -n 's/.*"key":"\([^"]*\)".*/\1/p' | sed -n 1p)
    took "case key KEY" "$ours" -q case key "$case" "$key"
    took "case timeline of 100 revisions in the middle" "$ours" -q case timeline "$case" --from-rev 5000000 --to-rev 5000099
    took "case at in the middle, one key" "$ours" -q case at "$case" 5000000 --prefix "$key"
    took "case at in the middle, all keys" "$ours" -q case at "$case" 5000000
    took "case timeline of all" "$ours" -q case timeline "$case"
    took "case add, as much again" "$ours" -q case add "$case" "b=$file"
    took "case diff of the two" "$ours" -q case diff "$case" a b
    took "case verify" "$ours" -q case verify "$case"
    rm -f "$file" "$case"
}

part crash crash
part judge judge
part log log
part property property
part keyspace keyspace
part replay replay
part recover recover
part salvage salvage
part heap heap
part case case_of_ten_million
part fuzz scripts/fuzz.sh 1800
part bench scripts/bench-peers.sh --scale 2331MiB
echo "== all of it in $SECONDS s"
