//! What a live server says of everything it holds: the key space at every revision, leases, auth, members, alarms.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::gateway::Gateway;
use super::history::Truth;
use super::token::token;
use crate::base64;

/// A member, as every server of its cluster lists it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MemberRow {
    /// Empty until the member has started once.
    pub name: String,
    /// In the order the server gives them.
    pub peer_urls: Vec<String>,
    /// In the order the server gives them.
    pub client_urls: Vec<String>,
    /// Not yet a voter.
    pub is_learner: bool,
}

/// Type, key and end of the range.
pub type Permission = (String, Vec<u8>, Vec<u8>);

/// Everything a server holds that clients can ask for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answers {
    /// The key space, at every revision.
    pub truth: Truth,
    /// By ID: the seconds granted, and the keys attached, in order.
    pub leases: BTreeMap<i64, (i64, Vec<Vec<u8>>)>,
    /// By name: the roles of each.
    pub users: BTreeMap<String, Vec<String>>,
    /// By name: the permissions of each.
    pub roles: BTreeMap<String, Vec<Permission>>,
    /// Member ID and type of each alarm.
    pub alarms: BTreeSet<(u64, String)>,
    /// By ID.
    pub members: BTreeMap<u64, MemberRow>,
}

fn texts(value: &Value) -> Vec<String> {
    value.as_array().into_iter().flatten().map(|text| text.as_str().expect("text").to_owned()).collect()
}

/// A 64-bit number is text in the gateway's JSON, and left out when it is 0.
fn number<N: std::str::FromStr + Default>(value: &Value) -> N {
    let Some(text) = value.as_str() else { return N::default() };
    text.parse().unwrap_or_else(|_| panic!("no number: {text}"))
}

fn bytes(value: &Value) -> Vec<u8> {
    base64::decode(value.as_str().unwrap_or_default())
}

fn items(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

/// Auth revisions looked for: a workload makes fewer changes.
const REVISIONS: u64 = 10_000;

/// A read is refused when its token is of another auth revision than the store's, which nobody tells in 3.4.
#[track_caller]
fn become_root(gateway: &mut Gateway) {
    let body = json!({ "key": base64::encode(b"a"), "serializable": true });
    for revision in 1..REVISIONS {
        let one = token("root", revision);
        match gateway.call_as(Some(&one), "/v3/kv/range", &body) {
            Ok(_) => return gateway.set_token(Some(one)),
            Err(refusal) if refusal.contains("old") => {}
            Err(refusal) => panic!("auth revision {revision}: {refusal}"),
        }
    }
    panic!("the auth revision is beyond {REVISIONS}");
}

impl Answers {
    /// Asks as root, of a server that takes the tokens of [`super::token_flag`]. What it has to ask for by a request (users
    /// and roles) moves the server's log on, and nothing else.
    #[track_caller]
    pub fn of(gateway: &mut Gateway) -> Self {
        become_root(gateway);
        let truth = Truth::of(gateway);
        let mut answers = Self { truth, ..Self::default() };
        let leases = gateway.must("/v3/lease/leases", &json!({}));
        for lease in items(&leases["leases"]) {
            let id: i64 = number(&lease["ID"]);
            let body = json!({ "ID": id.to_string(), "keys": true });
            let answer = gateway.must("/v3/lease/timetolive", &body);
            let mut keys: Vec<_> = items(&answer["keys"]).map(bytes).collect();
            keys.sort();
            answers.leases.insert(id, (number(&answer["grantedTTL"]), keys));
        }
        for user in texts(&gateway.must("/v3/auth/user/list", &json!({}))["users"]) {
            let answer = gateway.must("/v3/auth/user/get", &json!({ "name": user }));
            answers.users.insert(user, texts(&answer["roles"]));
        }
        for role in texts(&gateway.must("/v3/auth/role/list", &json!({}))["roles"]) {
            let answer = gateway.must("/v3/auth/role/get", &json!({ "role": role }));
            let permissions = items(&answer["perm"]).map(|one| {
                let kind = one["permType"].as_str().unwrap_or("READ").to_owned();
                (kind, bytes(&one["key"]), bytes(&one["range_end"]))
            });
            answers.roles.insert(role, permissions.collect());
        }
        let alarms = gateway.must("/v3/maintenance/alarm", &json!({ "action": "GET" }));
        for alarm in items(&alarms["alarms"]) {
            let kind = alarm["alarm"].as_str().unwrap_or("NONE").to_owned();
            answers.alarms.insert((number(&alarm["memberID"]), kind));
        }
        let members = gateway.must("/v3/cluster/member/list", &json!({}));
        for member in items(&members["members"]) {
            let row = MemberRow {
                name: member["name"].as_str().unwrap_or_default().to_owned(),
                peer_urls: texts(&member["peerURLs"]),
                client_urls: texts(&member["clientURLs"]),
                is_learner: member["isLearner"].as_bool().unwrap_or(false),
            };
            answers.members.insert(number(&member["ID"]), row);
        }
        answers
    }
}
