#!/usr/bin/env bash
# Makes a fixture of `fixtures/v2` (README.md) anew: a member on which the v2 API was used in every way it has, with all of its log and
# a .snap every 20 entries, and the last answer of its server. Times and IDs differ from the committed ones.
# Usage: testdata/make-v2.sh TOOLS OUT PORT      e.g. testdata/make-v2.sh .tools/etcd-3.4.23 /somewhere/data 24510
# `etcdctl migrate --data-dir` of 3.4.23, also with --no-ttl, then made the migrated databases from a copy.
set -u

[ $# = 3 ] || { echo "usage: testdata/make-v2.sh TOOLS OUT PORT" >&2; exit 2; }
T=$(cd "$1" && pwd); OUT=$2; P=$3
C=http://127.0.0.1:$P; PE=http://127.0.0.1:$((P+1))
TZ=UTC timeout 300 "$T/etcd" --name n1 --data-dir $OUT --enable-v2 --snapshot-count 20 --listen-client-urls $C --advertise-client-urls $C --listen-peer-urls $PE --initial-advertise-peer-urls $PE --initial-cluster n1=$PE >$OUT.log 2>&1 &
PID=$!
for i in $(seq 100); do curl -sf $C/health >/dev/null 2>&1 && break; sleep 0.2; done
K=$C/v2/keys
printf 'a\xff\xfeb' >"$OUT.bytes"
q() { curl -s "$@"; echo; }
{
for i in $(seq 12); do q -XPUT $K/app/key$i -d value="value $i"; done
q -XPUT $K/app/key1 -d value=changed
q -XPUT "$K/app/key1?prevValue=changed" -d value=swapped
q -XPUT "$K/app/key1?prevValue=nope" -d value=never
q -XPUT "$K/app/key2?prevExist=true" -d value=updated
q -XPUT "$K/app/key2?prevExist=false" -d value=never
q -XPUT "$K/app/new?prevExist=false" -d value=created
q -XPUT "$K/dir?dir=true"
q -XPUT "$K/dir/inner/deep" --data-urlencode 'value=<größe>&"x"'
q -XPOST $K/queue -d value=job1
q -XPOST $K/queue -d value=job2
q -XPUT $K/ttl/long -d value=expires -d ttl=10000000
q -XPUT $K/ttl/short -d value=gone -d ttl=1
q -XPUT $K/ttl/dir -d dir=true -d ttl=5000000
q -XPUT $K/ttl/dir -d dir=true -d ttl=6000000 -d prevExist=true
q -XPUT $K/ttl/long -d ttl=20000000 -d refresh=true -d prevExist=true
q -XPUT $K/_hidden/secret -d value=hidden
q -XDELETE $K/app/key3
q -XDELETE "$K/app/key4?prevValue=value%204"
q -XDELETE "$K/app/key5?prevValue=nope"
q -XDELETE "$K/app?dir=true"
q -XDELETE "$K/"
q -XPUT $K/ -d value=x
q -XPUT $K/dir -d value=x
q -XPUT $K/app/key6/below -d value=x
q -XGET "$K/app?recursive=true&quorum=true"
sleep 2
q -XPUT $K/tree/a/b/c -d value=1
q -XPUT $K/tree/a/d -d value=2
q -XDELETE "$K/tree/a?recursive=true"
q -XPUT $K/bytes --data-urlencode "value@$OUT.bytes"
q -XPUT $K/empty -d value=
for i in $(seq 15); do q -XPUT $K/app/key$i -d value="again $i"; done
q -XGET "$K/?recursive=true&sorted=true"
} > $OUT.answers
sleep 0.3
kill -TERM $PID; wait $PID 2>/dev/null
