#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use proptest::option::of as option;
use proptest::prelude::*;
use prost::Message as _;

use super::schema::{CONF_CHANGE, INTERNAL_RAFT_REQUEST, Kind, Label, MessageType, TOP_LEVEL, V2_REQUEST};
use super::*;

/// etcd's messages once more, in prost's words, so that the tables are not their own judge.
mod pb {
    use prost::{Message, Oneof};

    #[derive(Clone, PartialEq, Message)]
    pub(super) struct RequestHeader {
        #[prost(uint64, tag = "1")]
        pub(super) id: u64,
        #[prost(string, tag = "2")]
        pub(super) username: String,
        #[prost(uint64, tag = "3")]
        pub(super) auth_revision: u64,
    }

    #[derive(Clone, PartialEq, Message)]
    pub(super) struct Range {
        #[prost(bytes = "vec", tag = "1")]
        pub(super) key: Vec<u8>,
        #[prost(bytes = "vec", tag = "2")]
        pub(super) range_end: Vec<u8>,
        #[prost(int64, tag = "3")]
        pub(super) limit: i64,
        #[prost(int64, tag = "4")]
        pub(super) revision: i64,
        #[prost(int32, tag = "5")]
        pub(super) sort_order: i32,
        #[prost(int32, tag = "6")]
        pub(super) sort_target: i32,
        #[prost(bool, tag = "7")]
        pub(super) serializable: bool,
        #[prost(int64, tag = "13")]
        pub(super) max_create_revision: i64,
    }

    #[derive(Clone, PartialEq, Message)]
    pub(super) struct Put {
        #[prost(bytes = "vec", tag = "1")]
        pub(super) key: Vec<u8>,
        #[prost(bytes = "vec", tag = "2")]
        pub(super) value: Vec<u8>,
        #[prost(int64, tag = "3")]
        pub(super) lease: i64,
        #[prost(bool, tag = "4")]
        pub(super) prev_kv: bool,
    }

    #[derive(Clone, PartialEq, Message)]
    pub(super) struct DeleteRange {
        #[prost(bytes = "vec", tag = "1")]
        pub(super) key: Vec<u8>,
        #[prost(bytes = "vec", tag = "2")]
        pub(super) range_end: Vec<u8>,
    }

    #[derive(Clone, PartialEq, Message)]
    pub(super) struct Txn {
        #[prost(message, repeated, tag = "1")]
        pub(super) compare: Vec<Compare>,
        #[prost(message, repeated, tag = "2")]
        pub(super) success: Vec<RequestOp>,
        #[prost(message, repeated, tag = "3")]
        pub(super) failure: Vec<RequestOp>,
    }

    #[derive(Clone, PartialEq, Message)]
    pub(super) struct Compare {
        #[prost(int32, tag = "1")]
        pub(super) result: i32,
        #[prost(int32, tag = "2")]
        pub(super) target: i32,
        #[prost(bytes = "vec", tag = "3")]
        pub(super) key: Vec<u8>,
        #[prost(oneof = "Union", tags = "4, 7, 8")]
        pub(super) union: Option<Union>,
        #[prost(bytes = "vec", tag = "64")]
        pub(super) range_end: Vec<u8>,
    }

    #[derive(Clone, PartialEq, Oneof)]
    pub(super) enum Union {
        #[prost(int64, tag = "4")]
        Version(i64),
        #[prost(bytes = "vec", tag = "7")]
        Value(Vec<u8>),
        #[prost(int64, tag = "8")]
        Lease(i64),
    }

    #[derive(Clone, PartialEq, Message)]
    pub(super) struct RequestOp {
        #[prost(oneof = "Op", tags = "1, 2, 3, 4")]
        pub(super) op: Option<Op>,
    }

    #[derive(Clone, PartialEq, Oneof)]
    pub(super) enum Op {
        #[prost(message, tag = "1")]
        Range(Range),
        #[prost(message, tag = "2")]
        Put(Put),
        #[prost(message, tag = "3")]
        DeleteRange(DeleteRange),
        #[prost(message, tag = "4")]
        Txn(Txn),
    }

    #[derive(Clone, PartialEq, Message)]
    pub(super) struct Alarm {
        #[prost(int32, tag = "1")]
        pub(super) action: i32,
        #[prost(uint64, tag = "2")]
        pub(super) member: u64,
        #[prost(int32, tag = "3")]
        pub(super) alarm: i32,
    }

    #[derive(Clone, PartialEq, Message)]
    pub(super) struct Options {
        #[prost(bool, tag = "1")]
        pub(super) no_password: bool,
    }

    #[derive(Clone, PartialEq, Message)]
    pub(super) struct UserAdd {
        #[prost(string, tag = "1")]
        pub(super) name: String,
        #[prost(string, tag = "2")]
        pub(super) password: String,
        #[prost(message, optional, tag = "3")]
        pub(super) options: Option<Options>,
        #[prost(string, tag = "4")]
        pub(super) hashed_password: String,
    }

    #[derive(Clone, PartialEq, Message)]
    pub(super) struct ChangePassword {
        #[prost(string, tag = "1")]
        pub(super) name: String,
        #[prost(string, tag = "2")]
        pub(super) password: String,
        #[prost(string, tag = "3")]
        pub(super) hashed_password: String,
    }

    #[derive(Clone, PartialEq, Message)]
    pub(super) struct Checkpoints {
        #[prost(message, repeated, tag = "1")]
        pub(super) checkpoints: Vec<Checkpoint>,
    }

    #[derive(Clone, PartialEq, Message)]
    pub(super) struct Checkpoint {
        #[prost(int64, tag = "1")]
        pub(super) id: i64,
        #[prost(int64, tag = "2")]
        pub(super) remaining: i64,
    }

    #[derive(Clone, PartialEq, Message)]
    pub(super) struct V2 {
        #[prost(uint64, optional, tag = "1")]
        pub(super) id: Option<u64>,
        #[prost(string, optional, tag = "2")]
        pub(super) method: Option<String>,
        #[prost(string, optional, tag = "3")]
        pub(super) path: Option<String>,
        #[prost(string, optional, tag = "4")]
        pub(super) val: Option<String>,
        #[prost(bool, optional, tag = "8")]
        pub(super) prev_exist: Option<bool>,
        #[prost(int64, optional, tag = "15")]
        pub(super) time: Option<i64>,
        #[prost(bool, optional, tag = "17")]
        pub(super) refresh: Option<bool>,
    }

    #[derive(Clone, PartialEq, Message)]
    pub(super) struct Request {
        #[prost(message, optional, tag = "100")]
        pub(super) header: Option<RequestHeader>,
        #[prost(uint64, tag = "1")]
        pub(super) id: u64,
        #[prost(message, optional, tag = "2")]
        pub(super) v2: Option<V2>,
        #[prost(message, optional, tag = "3")]
        pub(super) range: Option<Range>,
        #[prost(message, optional, tag = "4")]
        pub(super) put: Option<Put>,
        #[prost(message, optional, tag = "5")]
        pub(super) delete_range: Option<DeleteRange>,
        #[prost(message, optional, tag = "6")]
        pub(super) txn: Option<Txn>,
        #[prost(message, optional, tag = "10")]
        pub(super) alarm: Option<Alarm>,
        #[prost(message, optional, tag = "11")]
        pub(super) lease_checkpoint: Option<Checkpoints>,
        #[prost(message, optional, tag = "1100")]
        pub(super) auth_user_add: Option<UserAdd>,
        #[prost(message, optional, tag = "1103")]
        pub(super) auth_user_change_password: Option<ChangePassword>,
    }
}

use pb::{Op, Union};

fn text_of(data: &[u8], style: &Style) -> String {
    let mut out = Vec::new();
    decode(data).write_text(style, &mut out);
    String::from_utf8(out).unwrap()
}

fn json_of(data: &[u8], style: &Style) -> serde_json::Value {
    let mut out = Vec::new();
    let decoded = decode(data);
    json::write(decoded.request().unwrap().message(), style, &mut out);
    serde_json::from_slice(&out).unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&out)))
}

fn bytes() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![prop::collection::vec(any::<u8>(), 0..12), "[a-z/]{0,8}".prop_map(String::into_bytes)]
}

fn ranges() -> impl Strategy<Value = pb::Range> {
    (bytes(), bytes(), any::<(i64, i64, i32, i32, bool, i64)>()).prop_map(|(key, range_end, rest)| {
        pb::Range {
            key,
            range_end,
            limit: rest.0,
            revision: rest.1,
            sort_order: rest.2,
            sort_target: rest.3,
            serializable: rest.4,
            max_create_revision: rest.5,
        }
    })
}

fn puts() -> impl Strategy<Value = pb::Put> {
    (bytes(), bytes(), any::<(i64, bool)>()).prop_map(|(key, value, (lease, prev_kv))| pb::Put {
        key,
        value,
        lease,
        prev_kv,
    })
}

fn deletes() -> impl Strategy<Value = pb::DeleteRange> {
    (bytes(), bytes()).prop_map(|(key, range_end)| pb::DeleteRange { key, range_end })
}

fn compares() -> impl Strategy<Value = pb::Compare> {
    let union = prop::option::of(prop_oneof![
        any::<i64>().prop_map(Union::Version),
        bytes().prop_map(Union::Value),
        any::<i64>().prop_map(Union::Lease),
    ]);
    (any::<(i32, i32)>(), bytes(), union, bytes()).prop_map(|((result, target), key, union, range_end)| {
        pb::Compare { result, target, key, union, range_end }
    })
}

fn txns() -> impl Strategy<Value = pb::Txn> {
    let leaf = Just(pb::Txn::default());
    leaf.prop_recursive(4, 24, 4, |inner| {
        let op = prop::option::of(prop_oneof![
            ranges().prop_map(Op::Range),
            puts().prop_map(Op::Put),
            deletes().prop_map(Op::DeleteRange),
            inner.prop_map(Op::Txn),
        ])
        .prop_map(|op| pb::RequestOp { op });
        let ops = prop::collection::vec(op, 0..4);
        (prop::collection::vec(compares(), 0..3), ops.clone(), ops)
            .prop_map(|(compare, success, failure)| pb::Txn { compare, success, failure })
    })
}

fn users() -> impl Strategy<Value = pb::UserAdd> {
    (any::<(String, String)>(), prop::option::of(any::<bool>()), any::<String>()).prop_map(
        |((name, password), options, hashed_password)| pb::UserAdd {
            name,
            password,
            options: options.map(|no_password| pb::Options { no_password }),
            hashed_password,
        },
    )
}

fn change_of(user: pb::UserAdd) -> pb::ChangePassword {
    pb::ChangePassword { name: user.name, password: user.password, hashed_password: user.hashed_password }
}

fn v2s() -> impl Strategy<Value = pb::V2> {
    any::<(
        Option<u64>,
        Option<String>,
        Option<String>,
        Option<String>,
        Option<bool>,
        Option<i64>,
        Option<bool>,
    )>()
    .prop_map(|(id, method, path, val, prev_exist, time, refresh)| pb::V2 {
        id,
        method,
        path,
        val,
        prev_exist,
        time,
        refresh,
    })
}

fn requests() -> impl Strategy<Value = pb::Request> {
    let checkpoints = prop::collection::vec(any::<(i64, i64)>(), 0..3).prop_map(|all| pb::Checkpoints {
        checkpoints: all.into_iter().map(|(id, remaining)| pb::Checkpoint { id, remaining }).collect(),
    });
    let header = any::<(u64, String, u64)>().prop_map(|(id, username, auth_revision)| pb::RequestHeader {
        id,
        username,
        auth_revision,
    });
    let alarm =
        any::<(i32, u64, i32)>().prop_map(|(action, member, alarm)| pb::Alarm { action, member, alarm });
    (
        (option(header), any::<u64>(), option(v2s()), option(ranges()), option(puts()), option(deletes())),
        (option(txns()), option(alarm), option(checkpoints), option(users()), option(users())),
    )
        .prop_map(
            |((header, id, v2, range, put, delete_range), (txn, alarm, lease_checkpoint, add, change))| {
                pb::Request {
                    header,
                    id,
                    v2,
                    range,
                    put,
                    delete_range,
                    txn,
                    alarm,
                    lease_checkpoint,
                    auth_user_add: add,
                    auth_user_change_password: change.map(change_of),
                }
            },
        )
}

/// The puts in a transaction, those of nested ones included.
fn puts_in(txn: &pb::Txn) -> usize {
    txn.success
        .iter()
        .chain(&txn.failure)
        .map(|op| match &op.op {
            Some(Op::Put(_)) => 1,
            Some(Op::Txn(inner)) => puts_in(inner),
            _ => 0,
        })
        .sum()
}

proptest! {
    #[test]
    fn whatever_prost_writes_is_read(request in requests()) {
        let data = request.encode_to_vec();
        let decoded = decode(&data);
        if data.is_empty() {
            prop_assert!(matches!(decoded, Decoded::Nothing));
            return Ok(());
        }
        let Decoded::V3(ours) = &decoded else {
            return Err(TestCaseError::fail(format!("{decoded:?}")));
        };
        let message = ours.message();
        prop_assert_eq!(message.number(1), request.id);
        prop_assert_eq!(message.message(4).is_some(), request.put.is_some());
        if let (Some(ours), Some(put)) = (message.message(4), &request.put) {
            prop_assert_eq!(ours.data(1), &put.key[..]);
            prop_assert_eq!(ours.data(2), &put.value[..]);
            prop_assert_eq!(ours.number(3).cast_signed(), put.lease);
            prop_assert_eq!(ours.number(4) != 0, put.prev_kv);
        }
        let expected = usize::from(request.put.is_some()) + request.txn.as_ref().map_or(0, puts_in);
        let found = message.walk().filter(|message| std::ptr::eq(message.kind(), &raw const schema::PUT)).count();
        prop_assert_eq!(found, expected);
        if let Some(alarm) = &request.alarm {
            prop_assert!(alarm.member == 0 || ours.members().any(|member| member == alarm.member));
        }
        if let Some(put) = &request.put {
            prop_assert!(ours.keys().any(|range| range.contains(&put.key)));
            prop_assert!(put.lease == 0 || ours.leases().any(|lease| lease == put.lease));
        }

        let whole = Style { show_secrets: true, ..Style::default() };
        prop_assert_eq!(text_of(&data, &whole), text_of(&data, &whole));
        let json = json_of(&data, &whole);
        prop_assert_eq!(json.get("txn").is_some(), request.txn.is_some());
        if let Some(header) = &request.header
            && header.id != 0
        {
            prop_assert_eq!(&json["header"]["ID"], &serde_json::json!(format!("{:x}", header.id)));
        }
    }

    /// The fields in another order, unknown ones among them, are the same request.
    #[test]
    fn the_order_on_the_wire_does_not_matter(a in requests(), b in requests(), known in any::<bool>()) {
        let left = pb::Request { header: None, ..a };
        let right = pb::Request { header: b.header, ..pb::Request::default() };
        let style = Style { show_secrets: true, ..Style::default() };
        let (mut one, mut other) = (left.encode_to_vec(), right.encode_to_vec());
        one.extend(right.encode_to_vec());
        other.extend(left.encode_to_vec());
        if !known {
            one.extend([0xa8, 0x7d, 0x05]);
            other.splice(0..0, [0xa8, 0x7d, 0x05]);
        }
        if !one.is_empty() {
            prop_assert_eq!(text_of(&one, &style), text_of(&other, &style));
            prop_assert_eq!(json_of(&one, &style), json_of(&other, &style));
        }
    }

    /// prost merges a message that stands twice, and so must we.
    #[test]
    fn twice_is_merged_as_prost_merges(a in requests(), b in requests()) {
        let mut twice = a.encode_to_vec();
        twice.extend(b.encode_to_vec());
        let merged = pb::Request::decode(twice.as_slice()).unwrap().encode_to_vec();
        let style = Style { show_secrets: true, ..Style::default() };
        if !merged.is_empty() {
            prop_assert_eq!(text_of(&twice, &style), text_of(&merged, &style));
        }
    }

    #[test]
    fn no_secret_is_shown_unless_asked(user in users(), json_hash in "[a-zA-Z0-9]{12,20}") {
        let secret = format!("S{json_hash}");
        let user = pb::UserAdd { password: secret.clone(), hashed_password: secret.clone(), ..user };
        let v2 = pb::V2 {
            method: Some("PUT".into()),
            path: Some("/2/users/root".into()),
            val: Some(format!("{{\"password\":\"{secret}\"}}")),
            ..pb::V2::default()
        };
        let wrapped = pb::Request {
            auth_user_add: Some(user.clone()),
            auth_user_change_password: Some(change_of(user)),
            v2: Some(v2.clone()),
            ..pb::Request::default()
        };
        for data in [wrapped.encode_to_vec(), v2.encode_to_vec()] {
            prop_assert!(decode(&data).request().unwrap().holds_secret());
            let hidden = Style::default();
            prop_assert!(!text_of(&data, &hidden).contains(&secret));
            prop_assert!(!json_of(&data, &hidden).to_string().contains(&secret));
            let shown = Style { show_secrets: true, ..hidden };
            prop_assert!(text_of(&data, &shown).contains(&secret));
            prop_assert!(json_of(&data, &shown).to_string().contains(&secret));
        }
    }

    #[test]
    fn any_bytes_are_safe(data in prop::collection::vec(prop_oneof![0u8..0x40, any::<u8>()], 0..60), which in any::<prop::sample::Index>()) {
        let style = Style { cut: Some(3), show_secrets: true };
        let mut out = Vec::new();
        decode(&data).write_text(&style, &mut out);
        if let Ok(parsed) = Parsed::new(TOP_LEVEL[which.index(TOP_LEVEL.len())], &data) {
            let mut out = Vec::new();
            json::write(parsed.message(), &style, &mut out);
            serde_json::from_slice::<serde_json::Value>(&out).map_err(|error| TestCaseError::fail(format!("{error}: {out:?}")))?;
        }
    }
}

/// The rule of FORMATS G.3: what a 3.5 server wrote as a v2 request is no v3 request, because `PUT` does not parse
/// as an embedded one.
#[test]
fn the_methods_of_v2_never_parse_as_v3() {
    for method in ["PUT", "POST", "DELETE", "QGET", "SYNC"] {
        let data = pb::V2 {
            id: Some(7),
            method: Some(method.into()),
            path: Some("/0/version".into()),
            ..pb::V2::default()
        }
        .encode_to_vec();
        assert!(matches!(decode(&data), Decoded::V2(_)), "{method}");
    }
    assert!(matches!(decode(b"\xff"), Decoded::Undecodable { .. }));
    assert!(matches!(decode(b""), Decoded::Nothing));
}

#[test]
fn v2_in_the_words_of_etcd_dump_logs() {
    let show = |v2: pb::V2| text_of(&v2.encode_to_vec(), &Style::default());
    let base =
        pb::V2 { id: Some(1), path: Some("/1/a\"b".into()), val: Some("v".into()), ..pb::V2::default() };
    let of = |method: &str| pb::V2 { method: Some(method.into()), ..base.clone() };
    assert_eq!(show(of("PUT")), r#"method=PUT path="/1/a\"b" val="v""#);
    assert_eq!(show(of("QGET")), r#"method=QGET path="/1/a\"b""#);
    assert_eq!(show(of("DELETE")), r#"method=DELETE path="/1/a\"b""#);
    assert_eq!(
        show(pb::V2 { time: Some(1_456_704_000_000_000_000), ..of("SYNC") }),
        r#"method=SYNC time="2016-02-29 00:00:00 +0000 UTC""#
    );
}

#[test]
fn strict_where_gogo_is_and_loose_where_it_is() {
    let v3 = |data: &[u8]| matches!(decode(data), Decoded::V3(_));
    // A known field with another wire type.
    assert!(!v3(&[0x09, 0, 0, 0, 0, 0, 0, 0, 0]));
    // An unknown group is skipped with what is in it, also one deeper; one that does not end, or ends twice, is an error.
    assert!(v3(&[0xab, 0x7d, 0xab, 0x7d, 0x08, 0x01, 0xac, 0x7d, 0xac, 0x7d]));
    assert!(!v3(&[0xab, 0x7d, 0x08, 0x01]));
    assert!(!v3(&[0xac, 0x7d]));
    // Ten bytes are a varint, whatever the last one holds; eleven are not.
    assert!(v3(&[0x08, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f]));
    assert!(!v3(&[0x08, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01]));
    // Field 0, and a field whose number is only in the bits that are dropped.
    assert!(!v3(&[0x00, 0x01]));
    assert!(v3(&[0x88, 0x80, 0x80, 0x80, 0x80, 0x01, 0x05]));
    assert!(!v3(&[0x80, 0x80, 0x80, 0x80, 0x80, 0x01, 0x05]));
    // Text need not be UTF-8.
    assert!(v3(&[0xa2, 0x06, 0x03, 0x12, 0x01, 0xff]));
    // Wire types 6 and 7 do not exist.
    assert!(!v3(&[0xae, 0x7d]));
}

#[test]
fn transactions_nest_to_the_limit_and_no_deeper() {
    // Each level is a TxnRequest with one success that is a RequestOp with one txn.
    let nest = |levels: usize| {
        let mut reversed: Vec<u8> = Vec::new();
        let mut put_reversed = |key: u8, len: usize| {
            let mut len_bytes = Vec::new();
            prost::encoding::encode_varint(u64::try_from(len).unwrap(), &mut len_bytes);
            reversed.extend(len_bytes.iter().rev());
            reversed.push(key);
            reversed.len()
        };
        let mut len = 0;
        for _ in 0..levels {
            len = put_reversed(0x22, len);
            len = put_reversed(0x12, len);
        }
        put_reversed(0x32, len);
        reversed.reverse();
        reversed
    };
    let deep = nest(4_000);
    let Decoded::V3(request) = decode(&deep) else { panic!("refused") };
    assert_eq!(request.message().walk().count(), 8_002);
    assert_eq!(text_of(&deep, &Style::default()).matches("success:<").count(), 4_000);
    let style = Style::default();
    let mut out = Vec::new();
    json::write(request.message(), &style, &mut out);
    assert_eq!(String::from_utf8(out).unwrap().matches("\"success\":[").count(), 4_000);
    let Decoded::Undecodable { v3, .. } = decode(&nest(6_000)) else { panic!("accepted") };
    assert_eq!(v3, WireError::TooDeep { depth: MAX_DEPTH });
}

#[test]
fn values_are_cut_keys_are_not() {
    let data = pb::Request {
        put: Some(pb::Put { key: vec![b'k'; 20], value: "ä".repeat(10).into_bytes(), ..pb::Put::default() }),
        ..pb::Request::default()
    }
    .encode_to_vec();
    let style = Style { cut: Some(5), show_secrets: false };
    assert_eq!(
        text_of(&data, &style),
        r#"put:<key:"kkkkkkkkkkkkkkkkkkkk" value:"\303\244\303\244\303"...(20 bytes) > "#
    );
    assert_eq!(
        json_of(&data, &style),
        serde_json::json!({"put": {"key": "k".repeat(20), "value": "ää", "value_len_bytes": 20}})
    );
    let data = pb::Request {
        put: Some(pb::Put { key: vec![0xff, 0], value: vec![0xc3; 9], ..pb::Put::default() }),
        ..pb::Request::default()
    }
    .encode_to_vec();
    assert_eq!(
        json_of(&data, &style),
        serde_json::json!({"put": {"key_hex": "ff00", "value_hex": "c3c3c3c3c3", "value_len_bytes": 9}})
    );
}

#[test]
fn unknown_fields_are_shown() {
    // Of a later version: 9999 (varint 5), 9998 (bytes), a group 9997 with field 1, and two fixed ones.
    let data = [
        0xf8, 0xf0, 0x04, 0x05, 0xf2, 0xf0, 0x04, 0x02, b'a', 0xff, 0xeb, 0xf0, 0x04, 0x08, 0x01, 0xec, 0xf0,
        0x04, 0xe5, 0xf0, 0x04, 1, 0, 0, 0, 0xd9, 0xf0, 0x04, 2, 0, 0, 0, 0, 0, 0, 0,
    ];
    assert_eq!(text_of(&data, &Style::default()), r#"9999:5 9998:"a\xff" 9997 { 1:1 } 9996:1 9995:2 "#);
    assert_eq!(
        json_of(&data, &Style::default())["unknown_fields_hex"].as_str().unwrap().len(),
        data.len() * 2
    );
    assert_eq!(decode(&data).kind(), "none");
}

#[test]
fn conf_changes_of_both_kinds() {
    let show = |change: &ConfChange<'_>| {
        let mut out = Vec::new();
        change.write_text(&mut out);
        String::from_utf8(out).unwrap()
    };
    let one = wal::raftpb::ConfChange {
        id: Some(0),
        change_type: Some(3),
        node_id: Some(0xabc),
        context: Some(b"{}".to_vec()),
    };
    let bytes = one.encode_to_vec();
    let change = ConfChange::v1(&bytes).unwrap();
    assert_eq!(show(&change), "method=ConfChangeAddLearnerNode id=abc");
    assert_eq!(change.context(), b"{}");
    let bytes = [0x08, 0x01, 0x12, 0x04, 0x08, 0x01, 0x10, 0x05, 0x12, 0x02, 0x10, 0x06];
    let change = ConfChange::v2(&bytes).unwrap();
    assert_eq!(
        show(&change),
        "transition=ConfChangeTransitionJointImplicit method=ConfChangeRemoveNode id=5 method=ConfChangeAddNode id=6"
    );
    assert_eq!(change.changes().count(), 2);
    assert!(ConfChange::v1(&[0x0a, 0x00]).is_err());
}

/// What the walk and the printers take for granted.
#[test]
fn the_tables_hold_what_the_code_assumes() {
    let mut seen: Vec<&MessageType> = TOP_LEVEL.to_vec();
    let mut at = 0;
    while let Some(message) = seen.get(at).copied() {
        at += 1;
        assert!(message.fields.len() <= 64, "{}", message.name);
        for (place, field) in message.fields.iter().enumerate() {
            assert!(field.number > 0);
            let twin = |other: &&schema::Field| other.number == field.number || other.name == field.name;
            assert_eq!(message.fields.iter().filter(twin).count(), 1, "{} {}", message.name, field.name);
            if let Kind::Message(inner) = field.kind
                && !seen.iter().any(|known| std::ptr::eq(*known, inner))
            {
                seen.push(inner);
            }
            // Merging goes down fields that stand once; a cycle of them would be endless.
            if let (Kind::Message(inner), Label::Singular) = (field.kind, field.label) {
                let mut below = vec![inner];
                while let Some(next) = below.pop() {
                    assert!(!std::ptr::eq(next, message), "{} {place}", message.name);
                    below.extend(next.fields.iter().filter_map(|field| match (field.kind, field.label) {
                        (Kind::Message(inner), Label::Singular) => Some(inner),
                        _ => None,
                    }));
                }
            }
        }
    }
    for message in [&INTERNAL_RAFT_REQUEST, &V2_REQUEST, &CONF_CHANGE] {
        assert!(seen.iter().any(|known| std::ptr::eq(*known, message)));
    }
}
