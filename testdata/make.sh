#!/usr/bin/env bash
# Makes a `single` fixture (README.md) anew from a real etcd: the same operations in the same order, so that keys,
# revisions, users, roles and alarms equal the committed ones. IDs, times, leases and the big random value differ.
# Usage: testdata/make.sh TOOLS OUT      e.g. testdata/make.sh .tools/etcd-3.5.1 /somewhere/new
# TOOLS holds etcd and etcdctl (scripts/install-oracles.sh); OUT must not exist. Needs tar and zstd.
set -euo pipefail

[ $# = 2 ] || { echo "usage: testdata/make.sh TOOLS OUT" >&2; exit 2; }
tools=$(cd "$1" && pwd)
mkdir "$2" "$2/facts"
out=$(cd "$2" && pwd)
cd "$out"
client=http://127.0.0.1:24110
peer=http://127.0.0.1:24111
auth=()
server=

ctl() { ETCDCTL_API=3 "$tools/etcdctl" --endpoints "$client" "${auth[@]}" "$@"; }

start() { # FLAG...
    "$tools/etcd" --name n1 --data-dir data --snapshot-count 25 --max-snapshots 5 --max-wals 5 \
        --listen-client-urls $client --advertise-client-urls $client --listen-peer-urls $peer \
        --initial-advertise-peer-urls $peer --initial-cluster n1=$peer "$@" >>etcd.log 2>&1 &
    server=$!
    local try
    for try in $(seq 100); do
        ctl endpoint status >/dev/null 2>&1 && return
        sleep 0.2
    done
    echo "make: etcd did not start, see $out/etcd.log" >&2
    exit 1
}

stop() {
    kill -TERM "$server"
    wait "$server" || true
    server=
}
trap '[ -z "$server" ] || kill -KILL "$server"' EXIT

granted() { # TTL; prints the lease's ID
    ctl lease grant "$1" | sed -n 's/^lease \([0-9a-f]*\) granted.*/\1/p'
}

record() { # STAGE
    local facts=facts/$1 lease name
    ctl endpoint status -w json >"$facts.endpoint-status.json"
    ctl endpoint hashkv -w json >"$facts.hashkv.json"
    ctl member list -w json >"$facts.members.json"
    ctl get '' --prefix -w json | zstd -q -19 >"$facts.keys.json.zst"
    ctl lease list -w json >"$facts.leases.json"
    for lease in $(ctl lease list | sed 1d); do ctl lease timetolive "$lease" --keys -w json; done >"$facts.lease-ttl.json"
    ctl alarm list >"$facts.alarms.txt"
    ctl user list >"$facts.users.txt"
    ctl role list >"$facts.roles.txt"
    for name in $(cat "$facts.roles.txt"); do ctl role get "$name" -w json; done >"$facts.role-get.json"
    for name in $(cat "$facts.users.txt"); do ctl user get "$name" -w json; done >"$facts.user-get.json"
    ctl snapshot save "$1.snapshot.db" >/dev/null 2>&1
    zstd -q -19 --rm "$1.snapshot.db"
}

start
for i in $(seq 30); do ctl put "$(printf '/a/key%03d' "$i")" "value $i"; done >/dev/null
for i in $(seq 10); do ctl put /a/key001 "update $i"; done >/dev/null
ctl put /bin/empty '' >/dev/null
ctl put $'k\xc3\xa9y with space\xff\x01' $'line1\nline2\t"quoted"' >/dev/null
head -c 70002 /dev/urandom | base64 -w 0 >big
ctl put /big/70k <big >/dev/null
for key in 002 003 004; do ctl del "/a/key$key"; done >/dev/null
ctl put /a/key003 recreated >/dev/null
ctl del /a/key02 --prefix >/dev/null
ctl txn >/dev/null <<'TXN'
mod("/a/key001") > "0"

put /txn/a 1
put /txn/b 2
del /a/key010

put /txn/fail 1

TXN
ctl txn >/dev/null <<'TXN'
value("/txn/a") = "nope"

put /txn/c 1

put /txn/else 1
get /txn/a

TXN
hour=$(granted 3600)
two_hours=$(granted 7200)
granted 86400 >/dev/null
ctl put --lease="$hour" /lease/a 1 >/dev/null
ctl put --lease="$hour" /lease/b 2 >/dev/null
ctl put --lease="$two_hours" /lease/c 3 >/dev/null
gone=$(granted 600)
ctl put --lease="$gone" /lease/gone 1 >/dev/null
ctl lease revoke "$gone" >/dev/null
record s1-precompact

revision=$(sed -n 's/.*"revision":\([0-9]*\).*/\1/p' facts/s1-precompact.members.json facts/s1-precompact.hashkv.json | tail -n 1)
ctl compact $((revision - 10)) >/dev/null
for i in $(seq 20); do ctl put "/b/$i" "x$i"; done >/dev/null
ctl del /b/7 >/dev/null
ctl role add reader >/dev/null
ctl role grant-permission reader read /a/ /a0 >/dev/null
ctl role add rw >/dev/null
ctl role grant-permission rw readwrite /b/1 /b/5 >/dev/null
ctl role add root >/dev/null
ctl user add root:rootpw >/dev/null
ctl user grant-role root root >/dev/null
ctl user add alice:alicepw >/dev/null
ctl user grant-role alice reader >/dev/null
ctl user add bob:bobpw >/dev/null
ctl user grant-role bob rw >/dev/null
ctl user grant-role bob reader >/dev/null
# 3.4's etcdctl has no such flag.
ctl user add carol --no-password >/dev/null 2>&1 || echo "make: no user carol in this version"
ctl auth enable >/dev/null
auth=(--user root:rootpw)
ctl put /auth/on yes >/dev/null
if (auth=(--user alice:alicepw) && ctl put /a/key001 denied >/dev/null 2>&1); then
    echo "make: alice was allowed to write" >&2
    exit 1
fi
record s2-auth
stop

start --quota-backend-bytes 320000
for i in 1 2 3 4 5; do ctl put "/quota/$i" <big >/dev/null 2>&1 || break; done
ctl alarm list | grep -q NOSPACE
record s3-final
stop
chmod 0700 data
tar --sparse -cf - data | zstd -q -19 -o data.tar.zst
rm -rf data big etcd.log
