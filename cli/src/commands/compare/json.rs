//! The JSON of `compare`.

use serde_json::{Map, Value, json};
use snapshot::certainty::Judged;
use snapshot::compare::{Comparison, Data, Differing, First, Held, Standing, TailEntry};
use snapshot::membership::hex_id;
use snapshot::survivors::{SetAside, Survivor, Survivors};

use super::super::kv_usage::insert_bytes;
use super::words;

/// The whole of it.
pub(super) fn of(survivors: &Survivors, comparison: &Comparison) -> Value {
    let judgement = &survivors.judgement;
    let hex = |ids: &mut dyn Iterator<Item = u64>| ids.map(hex_id).collect::<Vec<_>>();
    let list = |list: &[Judged]| list.iter().map(|one| judged(one, survivors)).collect::<Vec<_>>();
    json!({
        "members": comparison.members.iter().map(|one| member(one, survivors, &comparison.data)).collect::<Vec<_>>(),
        "setAside": survivors.set_aside.iter().map(|one| set_aside(one, survivors)).collect::<Vec<_>>(),
        "history": {
            "voters": hex(&mut judgement.voters.iter().copied()),
            "unread": hex(&mut judgement.unread.iter().copied()),
            "hasQuorum": judgement.has_quorum,
            "certainTo": judgement.certain_to.index,
            "knownTo": judgement.known_to,
            "chain": list(&judgement.chain),
            "branches": list(&judgement.branches),
            "conflicts": judgement.conflicts.iter().map(|conflict| json!({
                "after": conflict.after,
                "sides": conflict.sides.iter().map(|side| holders(side, survivors)).collect::<Vec<_>>(),
                "why": words::parting(conflict.parting),
            })).collect::<Vec<_>>(),
        },
        "tail": comparison.tail.entries.iter().map(|entry| tail(entry, survivors)).collect::<Vec<_>>(),
        "tailEntries": comparison.tail.count,
        "data": data(&comparison.data, survivors),
        "findings": comparison.findings,
    })
}

/// Who it is: the member's id, else the path.
fn id(survivor: &Survivor) -> String {
    match &survivor.identity {
        Some(identity) => hex_id(identity.member_id),
        None => survivor.given.path.display().to_string(),
    }
}

fn holders(testimonies: &[usize], survivors: &Survivors) -> Vec<String> {
    testimonies.iter().filter_map(|at| survivors.witness(*at)).map(id).collect()
}

fn ids(places: &[usize], survivors: &Survivors) -> Vec<String> {
    places.iter().filter_map(|place| survivors.all.get(*place)).map(id).collect()
}

fn member(standing: &Standing, survivors: &Survivors, data: &Data) -> Value {
    let survivor = survivors.all.get(standing.survivor);
    let identity = survivor.and_then(|survivor| survivor.identity.as_ref());
    let hash = data.hash_of(standing.survivor);
    let not_compared = data.not_compared.iter().find(|not| not.survivor == standing.survivor);
    json!({
        "path": survivor.map(|survivor| survivor.given.path.display().to_string()),
        "member": identity.map(|identity| hex_id(identity.member_id)),
        "name": identity.map(|identity| identity.name.as_str()).filter(|name| !name.is_empty()),
        "cluster": identity.map(|identity| hex_id(identity.cluster_id)),
        "rank": standing.rank,
        "term": standing.term,
        "lastIndex": standing.last_index,
        "lastTerm": standing.last_term,
        "commit": standing.commit,
        "consistentIndex": standing.consistent_index,
        "revision": standing.revision,
        "compactRevision": standing.compact_revision,
        "hash": hash.map(|hash| hash.hash),
        "hashRevision": hash.map(|hash| hash.hash_revision),
        "hashCompactRevision": hash.map(|hash| hash.compact_revision),
        "writtenBy": standing.written_by.map(|version| version.to_string()),
        "damaged": standing.is_damaged || not_compared.is_some_and(|not| not.is_damaged),
        "notCompared": not_compared.map(|not| not.why.as_str()),
    })
}

fn set_aside(aside: &SetAside, survivors: &Survivors) -> Value {
    json!({
        "path": aside.survivor.given.path.display().to_string(),
        "member": id(&aside.survivor),
        "newer": survivors.all.get(aside.newer).map(|newer| newer.given.path.display().to_string()),
        "why": aside.why,
    })
}

fn judged(judged: &Judged, survivors: &Survivors) -> Value {
    json!({
        "first": judged.first,
        "last": judged.last,
        "term": judged.term,
        "class": judged.class,
        "heldBy": holders(&judged.holders, survivors),
        "why": words::why(judged.why, survivors),
    })
}

fn tail(entry: &TailEntry, survivors: &Survivors) -> Value {
    let keys = entry.keys.iter().map(|key| bytes("key", key)).collect::<Vec<_>>();
    json!({
        "index": entry.index,
        "term": entry.term,
        "class": entry.class,
        "onChain": entry.is_on_chain,
        "heldBy": holders(&entry.holders, survivors),
        "kind": entry.kind,
        "request": entry.request,
        "keys": keys,
    })
}

fn data(data: &Data, survivors: &Survivors) -> Value {
    let first = data.first.as_ref();
    json!({
        "comparedTo": data.compared_to,
        "compactedTo": data.compacted,
        "agree": data.agrees(),
        "groups": data.groups.iter().map(|group| ids(&group.survivors, survivors)).collect::<Vec<_>>(),
        "firstRevision": data.first_revision(),
        "mayBeEarlier": first.is_some_and(|first| first.may_be_earlier),
        "atFirstRevision": first.map_or_else(Vec::new, |first| keys(&first.keys, survivors)),
        "differingValues": data.keys.values,
        "rewritten": data.keys.rewritten,
        "keys": keys(&data.keys.first, survivors),
        "inPart": data.in_part.iter().map(|part| json!({
            "member": ids(&[part.survivor], survivors).pop(),
            "with": ids(&[part.with], survivors).pop(),
            "revision": part.revision,
            "agree": part.first.is_none(),
            "firstRevision": part.first.as_ref().map(|first: &First| first.revision),
        })).collect::<Vec<_>>(),
        "shifted": data.shifted.iter().map(|pair| [pair.one, pair.other].map(|(place, index, revision)| json!({
            "member": ids(&[place], survivors).pop(),
            "consistentIndex": index,
            "revision": revision,
        }))).collect::<Vec<_>>(),
    })
}

fn keys(keys: &[Differing], survivors: &Survivors) -> Vec<Value> {
    keys.iter().map(|differing| key(differing, survivors)).collect()
}

fn key(differing: &Differing, survivors: &Survivors) -> Value {
    let values = differing.held.iter().filter_map(|(place, held)| Some((survivors.all.get(*place)?, held)));
    let values = values.map(|(survivor, held)| {
        let mut object = Map::from_iter([
            ("member".to_owned(), json!(id(survivor))),
            ("path".to_owned(), json!(survivor.given.path.display().to_string())),
        ]);
        match held {
            Held::Nothing => _ = object.insert("present".to_owned(), json!(false)),
            Held::Deletion => {
                object.insert("present".to_owned(), json!(false));
                object.insert("deleted".to_owned(), json!(true));
            }
            Held::Value(value) => {
                object.insert("present".to_owned(), json!(true));
                object.insert("createRevision".to_owned(), json!(value.create_revision));
                object.insert("modRevision".to_owned(), json!(value.mod_revision));
                object.insert("version".to_owned(), json!(value.version));
                if value.lease != 0 {
                    object.insert("lease".to_owned(), json!(format!("{:x}", value.lease)));
                }
                object.insert("valueBytes".to_owned(), json!(value.len_bytes));
                insert_bytes(&mut object, "value", &value.bytes);
            }
        }
        Value::Object(object)
    });
    let mut object = match bytes("key", &differing.key) {
        Value::Object(object) => object,
        key => Map::from_iter([("key".to_owned(), key)]),
    };
    object.insert("values".to_owned(), Value::Array(values.collect()));
    Value::Object(object)
}

/// `bytes` under `name`, or as hexadecimal under `name_hex` where they are no text.
fn bytes(name: &str, bytes: &[u8]) -> Value {
    let mut object = Map::new();
    insert_bytes(&mut object, name, bytes);
    Value::Object(object)
}
