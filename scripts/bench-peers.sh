#!/usr/bin/env bash
# Ours and the real tools on the same generated files in one interleaved run: medians, and ratios to the yardsticks.
# Usage: scripts/bench-peers.sh [--scale SIZE] [--runs N] [--sets "big frag flat"] [--dir DIR] [--out DIR] [--keep]
#   --scale  size of the preset `big`; `frag` and `flat` keep their proportions to it (default 1GiB)
#   --runs   runs of every command, in turn (default 7)
#   --dir    where the generated files go (default target/bench-peers)
#   --keep   leave them there, for the next run of this commit to use again
#   --out    where restored directories and copies go (default DIR/out; on a tmpfs the disk's noise stays out)
# Yardsticks: Y = etcdutl 3.5.1 `snapshot status`, S = `openssl dgst -sha256`, C = `cp` and `sync` of the file,
# 3C = three `cp` and one `sync`. All of the same file in the same run, page cache warm.
# Appends its tables as a file of today under benches/runs/.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
scale=1GiB runs=7 sets='big frag flat' dir=target/bench-peers out='' keep=no
while [ $# -gt 0 ]; do
    case $1 in
        --scale|--runs|--sets|--dir|--out)
            [ $# -ge 2 ] || { echo "bench-peers: $1 needs a value" >&2; exit 2; }
            declare "${1#--}=$2"
            shift ;;
        --keep) keep=yes ;;
        *) sed -n '2,/^set/{/^#/s/^# \{0,1\}//p}' "$0" >&2; exit 2 ;;
    esac
    shift
done
case $runs in ''|*[!0-9]*|0) echo "bench-peers: --runs needs a positive number" >&2; exit 2 ;; esac
bytes=$(numfmt --from=auto --to=none "${scale%B}" 2>/dev/null) && [ "$bytes" -gt 1000000 ] ||
    { echo "bench-peers: --scale needs a size such as 1GiB" >&2; exit 2; }
for set in $sets; do
    case $set in big|frag|flat) ;; *) echo "bench-peers: no preset $set" >&2; exit 2 ;; esac
done

tools=${ETCD_RESCUE_TOOLS:-.tools}
[ -x "$tools/etcd-3.5.1/etcdutl" ] && [ -x "$tools/etcd-3.5.new/etcdutl" ] || scripts/install-oracles.sh
newer=$(cat "$tools/etcd-3.5.new/VERSION")
cargo build --locked --release -q -p etcd-rescue -p etcd-rescue-generate
target=${CARGO_TARGET_DIR:-target}
ours=$(realpath "$target/release/etcd-rescue")
generate=$(realpath "$target/release/etcd-rescue-generate")

mkdir -p "$dir"
[ -n "$out" ] || out=$dir/out
mkdir -p "$out"
scratch=$(mktemp -d "$out/bench.XXXXXX")
times=$(mktemp)
trap 'rm -rf "$scratch" "$times"' EXIT
trap 'exit 130' INT TERM

# Bytes of each preset at the scale of the baseline.
declare -A baseline=([big]=2444648480 [frag]=2469744672 [flat]=1335975968)

timed() { # LABEL COMMAND...
    local label=$1 started ended
    shift
    started=$EPOCHREALTIME
    "$@" >"$scratch/stdout" 2>"$scratch/stderr" || { echo "bench-peers: $label failed:" >&2; cat "$scratch/stderr" >&2; exit 1; }
    ended=$EPOCHREALTIME
    printf '%s\t%s\t%s\n' "$set" "$label" "$(( ${ended/./} - ${started/./} ))" >>"$times"
    # What a run wrote is no business of the next one.
    rm -rf "${scratch:?}"/w.*
    sync -f "$scratch"
}

copied() { cp "$file" "$scratch/w.1" && sync "$scratch/w.1"; }
# The store's revision, and a key of it.
revision() { "$ours" hashkv "$file" | cut -d, -f2 | tr -d ' '; }
a_key() { "$ours" -q kv list "$file" --keys-only --limit 1 | head -n 1; }
copied_compacted() { cp "$scratch/compacted" "$scratch/w.1" && sync "$scratch/w.1"; }
copied_defragmented() { cp "$scratch/defragmented" "$scratch/w.1" && sync "$scratch/w.1"; }
# A data dir of the file, which is not part of what is timed.
member() {
    mkdir -p "$scratch/w.member/member/snap"
    cp "$file" "$scratch/w.member/member/snap/db"
    sync -f "$scratch"
    cat "$scratch/w.member/member/snap/db" >/dev/null
}
copied_thrice() {
    local n
    for n in 1 2 3; do cp "$file" "$scratch/w.$n"; done
    sync "$scratch"/w.1 "$scratch"/w.2 "$scratch"/w.3
}

round() { # NUMBER
    # In another order each time, the same on every machine, so that nobody always has the same neighbour.
    local command
    for command in $(printf '%s\n' openssl y status skip pread hash status_new cp restore save restore_old restore_new \
        cp3 all cp_defrag compact defrag defrag_old hashkv key revision_compact cp_compact | shuf --random-source=<(yes "$1")); do
        one "$command"
    done
}

one() { # COMMAND
    local three=m1=http://127.0.0.1:1,m2=http://127.0.0.1:2,m3=http://127.0.0.1:3
    local old=$tools/etcd-3.5.1/etcdutl new=$tools/etcd-3.5.new/etcdutl
    case $1 in
        openssl) timed "S: openssl dgst -sha256" openssl dgst -sha256 "$file" ;;
        y) timed "Y: etcdutl 3.5.1 snapshot status" "$old" snapshot status "$file" ;;
        status) timed "ours: snapshot status" "$ours" snapshot status "$file" ;;
        skip) timed "ours: snapshot status --skip-hash-check" "$ours" snapshot status --skip-hash-check "$file" ;;
        pread) timed "ours: snapshot status --io pread" "$ours" --io pread snapshot status "$file" ;;
        hash) timed "ours: snapshot hash" "$ours" snapshot hash "$file" ;;
        status_new) timed "etcdutl $newer snapshot status" "$new" snapshot status "$file" ;;
        cp) timed "C: cp and sync" copied ;;
        restore) timed "ours: snapshot restore" "$ours" snapshot restore "$file" --data-dir "$scratch/w.restored" ;;
        save) timed "ours: snapshot save" "$ours" snapshot save "$file" -o "$scratch/w.saved" ;;
        restore_old) timed "etcdutl 3.5.1 snapshot restore" "$old" snapshot restore "$file" --data-dir "$scratch/w.restored" ;;
        restore_new) timed "etcdutl $newer snapshot restore" "$new" snapshot restore "$file" --data-dir "$scratch/w.restored" ;;
        cp_defrag)
            rm -f "$scratch/defragmented"
            member
            "$ours" -q defrag --data-dir "$scratch/w.member" -o "$scratch/defragmented" >/dev/null
            timed "D: cp and sync of what defrag writes" copied_defragmented
            rm -f "$scratch/defragmented" ;;
        compact) timed "ours: bbolt compact" "$ours" bbolt compact "$file" -o "$scratch/w.compacted" ;;
        defrag) member; timed "ours: defrag" "$ours" defrag --data-dir "$scratch/w.member" ;;
        defrag_old) member; timed "etcdutl 3.5.1 defrag" "$old" defrag --data-dir "$scratch/w.member" ;;
        hashkv) timed "ours: hashkv" "$ours" hashkv "$file" ;;
        key) timed "ours: kv get KEY" "$ours" kv get "$file" "$(a_key)" ;;
        revision_compact) timed "ours: compact at the store's revision" "$ours" compact "$file" --rev "$(revision)" -o "$scratch/w.compacted" ;;
        cp_compact)
            rm -f "$scratch/compacted"
            "$ours" -q compact "$file" --rev "$(revision)" -o "$scratch/compacted" >/dev/null
            timed "K: cp and sync of what compact writes" copied_compacted
            rm -f "$scratch/compacted" ;;
        cp3) timed "3C: three cp and one sync" copied_thrice ;;
        all) timed "ours: snapshot restore --all-members (3)" "$ours" snapshot restore "$file" --all-members \
                --initial-cluster "$three" -o "$scratch/w.all" ;;
    esac
}

table() { # SET
    awk -F'\t' -v set="$1" '
        $1 == set {
            if (!($2 in count)) order[++labels] = $2
            value[$2, ++count[$2]] = $3
        }
        function median(label,    n, i, j, t, v) {
            n = count[label]
            for (i = 1; i <= n; i++) v[i] = value[label, i]
            for (i = 2; i <= n; i++) { t = v[i]; for (j = i - 1; j > 0 && v[j] > t; j--) v[j + 1] = v[j]; v[j + 1] = t }
            low[label] = v[1] / 1e6; high[label] = v[n] / 1e6
            return (n % 2 ? v[(n + 1) / 2] : (v[n / 2] + v[n / 2 + 1]) / 2) / 1e6
        }
        function ratio(a, b) { return b > 0 ? sprintf("%.2f", a / b) : "" }
        END {
            for (i = 1; i <= labels; i++) {
                label = order[i]; m[label] = median(label)
                if (label ~ /^Y:/) y = m[label]
                if (label ~ /^S:/) s = m[label]
                if (label ~ /^C:/) c = m[label]
                if (label ~ /^3C:/) ccc = m[label]
            }
            slower = s > c ? s : c
            print "| command | median s | least | most | / Y | / S | / max(S, C) | / 3C |"
            print "|---|---|---|---|---|---|---|---|"
            for (i = 2; i <= labels; i++) {
                label = order[i]
                for (j = i - 1; j > 0 && m[order[j]] > m[label]; j--) order[j + 1] = order[j]
                order[j + 1] = label
            }
            for (i = 1; i <= labels; i++) {
                label = order[i]
                printf "| %s | %.3f | %.3f | %.3f | %s | %s | %s | %s |\n", label, m[label], low[label], high[label],
                    ratio(m[label], y), ratio(m[label], s), ratio(m[label], slower), ratio(m[label], ccc)
            }
        }' "$times"
}

commit=$(git describe --always --dirty 2>/dev/null || echo unknown)
mkdir -p benches/runs
report=benches/runs/$(date -u +%Y-%m-%d).md
body=$scratch/report
{
    printf '\n## %s UTC, commit %s\n\n' "$(date -u '+%Y-%m-%d %H:%M')" "$commit"
    printf -- '- scale %s; %s runs of each command in turn, page cache warm; medians of wall time in seconds\n' "$scale" "$runs"
    printf -- '- %s, %s cores, %s GiB of memory, Linux %s\n' \
        "$(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | sed -n 1p)" "$(nproc)" \
        "$(awk '/^MemTotal/ { printf "%d", $2 / 1048576 + 0.5 }' /proc/meminfo)" "$(uname -r)"
    printf -- '- outputs on %s; etcdutl 3.5.1 and %s, %s\n' "$(stat -f -c %T "$out")" "$newer" "$(openssl version | cut -d' ' -f1,2)"
} >"$body"

for set in $sets; do
    size=$(awk -v b="${baseline[$set]}" -v n="$bytes" -v big="${baseline[big]}" 'BEGIN { printf "%.0f", b / big * n }')
    file=$dir/$set-$size-$commit.db
    [ -e "$file" ] || "$generate" --quiet --preset "$set" --size "$size" --trailer -o "$file" >/dev/null
    cat "$file" >/dev/null
    for run in $(seq "$runs"); do
        echo "bench-peers: $set, run $run of $runs" >&2
        round "$run"
    done
    printf '\n### %s: %s bytes\n\n' "$set" "$(stat -c %s "$file")" >>"$body"
    table "$set" >>"$body"
    [ $keep = yes ] || rm -f "$file"
done

[ -e "$report" ] || printf '# Benchmarks of %s\n\nMade by `scripts/bench-peers.sh`, which says what Y, S, C and 3C are. Compare ratios, not seconds.\n' \
    "$(date -u +%Y-%m-%d)" >"$report"
cat "$body" >>"$report"
cat "$body"
echo "bench-peers: appended to $report" >&2
