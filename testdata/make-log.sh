#!/usr/bin/env bash
# Makes the fixtures of the log anew (README.md): data dirs of real servers whose logs have several segments, or entries
# that a later leader overwrote. Indexes and keys come out equal or nearly so, IDs, times and therefore bytes do not.
# Usage: testdata/make-log.sh KIND TOOLS OUT      e.g. testdata/make-log.sh segments .tools/etcd-3.5.1 /somewhere/new
#   killed        one server, one segment, four snapshots, ended by SIGKILL with the last writes only in its log
#   segments      one server, four segments, four snapshots
#   purged        one server that removed its first segments
#   overwritten   three servers; n1 led, took entries that no other got, died, and had them overwritten by the next
#                 leader; then n2 and n3 were removed, so that n1 is a lone voter
# TOOLS holds etcd and etcdctl (scripts/install-oracles.sh); OUT must not exist. Needs tar and zstd.
set -euo pipefail

[ $# = 3 ] || { sed -n '2,/^set/{/^#/s/^# \{0,1\}//p}' "$0" >&2; exit 2; }
kind=$1
tools=$(cd "$2" && pwd)
mkdir "$3" "$3/facts"
cd "$3"
base=$((24200 + $$ % 50 * 10))
declare -A server

client_url() { echo "http://127.0.0.1:$((base + ${1#n}))"; }
peer_url() { echo "http://127.0.0.1:$((base + 5 + ${1#n}))"; }
ctl() { # NAME ARG...
    local at
    at=$(client_url "$1")
    shift
    ETCDCTL_API=3 "$tools/etcdctl" --endpoints "$at" "$@"
}

spawn() { # NAME DIR CLUSTER FLAG...
    local name=$1 dir=$2 cluster=$3
    shift 3
    "$tools/etcd" --name "$name" --data-dir "$dir" --initial-cluster "$cluster" \
        --listen-client-urls "$(client_url "$name")" --advertise-client-urls "$(client_url "$name")" \
        --listen-peer-urls "$(peer_url "$name")" --initial-advertise-peer-urls "$(peer_url "$name")" \
        "$@" >>"$name.log" 2>&1 &
    server[$name]=$!
}

ready() { # NAME
    local try
    for try in $(seq 150); do
        ctl "$1" get ready >/dev/null 2>&1 && return
        sleep 0.2
    done
    echo "make-log: $1 did not start, see $1.log" >&2
    exit 1
}

end() { # SIGNAL NAME...
    local signal=$1 name
    shift
    for name; do kill "-$signal" "${server[$name]}"; done
    for name; do
        wait "${server[$name]}" 2>/dev/null || true
        unset "server[$name]"
    done
}
trap 'for name in "${!server[@]}"; do kill -KILL "${server[$name]}"; done' EXIT

# Runs of one byte other than 0 compress to nothing and hold no empty sector.
large() { # LETTER
    head -c 1000000 /dev/zero | tr '\0' "$1"
}

# Large values to three keys, and a small one after each; compacted as it goes, so that the db stays small.
fill() { # FIRST LAST
    local i letters=(x y z)
    for i in $(seq "$1" "$2"); do
        large "${letters[i % 3]}" | ctl n1 put "/large/$((i % 3))" >/dev/null
        ctl n1 put "$(printf '/small/%03d' "$i")" "value $i" >/dev/null
        if [ $((i % 6)) = 0 ]; then
            ctl n1 compact --physical "$(($(revision) - 2))" >/dev/null
        fi
    done
}

revision() { ctl n1 endpoint status -w json | sed -n 's/.*"revision":\([0-9]*\).*/\1/p'; }

# What the server says of itself, then what it finds in its log when it starts again.
record() {
    ctl n1 endpoint status -w json >facts/endpoint-status.json
    ctl n1 endpoint hashkv -w json >facts/hashkv.json
    ctl n1 member list -w json >facts/members.json
    ctl n1 get '' --prefix --keys-only | sed '/^$/d' >facts/keys.txt
}

pack() { # DIR...
    chmod 0700 "$@"
    (cd "$1" && find . -type f -printf '%p %s\n' | sort) >facts/files.txt
    tar --sparse -cf - "$@" | zstd -q -19 --long=27 -o data.tar.zst
}

# The log as the server's raft sees it on its next start, which changes the dir: only after it was packed.
see() { # FLAG...
    : >n1.log
    spawn n1 data "n1=$(peer_url n1)" "$@"
    ready n1
    end TERM n1
    grep -o 'newRaft [0-9a-f]* \[.*\]' n1.log >facts/newraft.txt
}

one() { # FLAG...
    spawn n1 data "n1=$(peer_url n1)" "$@"
    ready n1
}

case $kind in
    killed)
        # The db is committed when a snapshot is made, and not again.
        flags=(--snapshot-count 20 --backend-batch-interval 1h --backend-batch-limit 1000000)
        one "${flags[@]}"
        for i in $(seq 92); do
            printf "value $i %$((i * 397 % 3100))s" | tr ' ' "$((i % 10))" | ctl n1 put "$(printf '/key/%02d' $((i % 40)))" >/dev/null
        done
        record
        end KILL n1
        pack data
        see "${flags[@]}" ;;
    segments)
        flags=(--snapshot-count 100 --max-wals 0)
        one "${flags[@]}"
        fill 1 200
        for i in $(seq 12); do ctl n1 put /tail/"$i" "the tail $i" >/dev/null; done
        ctl n1 defrag >/dev/null
        record
        end TERM n1
        pack data
        see "${flags[@]}" ;;
    purged)
        flags=(--snapshot-count 60 --max-wals 2)
        one "${flags[@]}"
        fill 1 170
        end TERM n1
        # A server purges when it starts, what it does not lock: what lies before its last snapshot.
        one "${flags[@]}"
        sleep 3
        for i in $(seq 12); do ctl n1 put /tail/"$i" "the tail $i" >/dev/null; done
        ctl n1 defrag >/dev/null
        record
        end TERM n1
        pack data
        see "${flags[@]}" ;;
    overwritten)
        cluster="n1=$(peer_url n1),n2=$(peer_url n2),n3=$(peer_url n3)"
        # A leader without followers steps down after the election timeout: long enough for a few writes.
        flags=(--snapshot-count 1000 --heartbeat-interval 200 --election-timeout 3000)
        for name in n1 n2 n3; do spawn "$name" "$name" "$cluster" "${flags[@]}"; done
        for name in n1 n2 n3; do ready "$name"; done
        for i in $(seq 20); do ctl n1 put "/kept/$i" "before $i" >/dev/null; done
        id=$(ctl n1 endpoint status -w json | sed -n 's/.*"member_id":\([0-9]*\).*/\1/p')
        [ "$(ctl n1 endpoint status -w json | sed -n 's/.*"leader":\([0-9]*\).*/\1/p')" = "$id" ] ||
            ctl "$(for name in n2 n3; do
                [ "$(ctl $name endpoint status -w json | sed -n 's/.*"member_id":\([0-9]*\).*"leader":\1,.*/yes/p')" = yes ] && echo $name
            done)" move-leader "$(printf '%x' "$id")" >/dev/null
        ctl n1 put /kept/last "before" >/dev/null
        sleep 1
        end KILL n2 n3
        for i in $(seq 8); do
            ctl n1 put "/lost/$i" "never committed $i" --command-timeout=2s >/dev/null 2>&1 &
        done
        sleep 2.2
        end KILL n1
        for name in n2 n3; do spawn "$name" "$name" "$cluster" "${flags[@]}"; done
        for name in n2 n3; do ready "$name"; done
        for i in $(seq 5); do ctl n2 put "/kept/after/$i" "by the next leader $i" >/dev/null; done
        spawn n1 n1 "$cluster" "${flags[@]}"
        ready n1
        for i in $(seq 5); do ctl n2 put "/kept/together/$i" "all three $i" >/dev/null; done
        sleep 1
        end TERM n2 n3 n1
        pack n1 n2 n3
        mv data.tar.zst three.tar.zst
        mv facts/files.txt facts/three.files.txt
        for name in n1 n2 n3; do spawn "$name" "$name" "$cluster" "${flags[@]}"; done
        for name in n1 n2 n3; do ready "$name"; done
        for name in n3 n2; do
            # Refused until the member has been connected for some seconds.
            for try in $(seq 40); do
                ctl n1 member remove "$(ctl n1 member list | sed -n "s/^\([0-9a-f]*\), started, $name,.*/\1/p")" >/dev/null 2>&1 && break
                sleep 0.5
            done
            sleep 1
        done
        ready n1
        ctl n1 put /kept/alone "n1 alone" >/dev/null
        record
        end TERM n1
        wait
        server=()
        mv n1 data
        pack data
        see "${flags[@]}"
        rm -rf n2 n3 ;;
    *) echo "make-log: no kind $kind" >&2; exit 2 ;;
esac
rm -rf data ./*.log
