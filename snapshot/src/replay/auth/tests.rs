use super::*;
use crate::replay::asked::{Asked, asked};

const MOMENT: Moment = Moment { index: 7, term: 2 };

fn release(text: &str) -> Release {
    text.parse().unwrap()
}

#[track_caller]
fn apply_as(small: &mut Small, text: &str, request: &Asked) -> Applied {
    request.asks(|_, kind, message| {
        assert!(is_change(kind), "{kind}");
        apply(small, kind, message, &MOMENT, release(text)).unwrap()
    })
}

#[track_caller]
fn does(small: &mut Small, request: &Asked) -> Applied {
    apply_as(small, "3.5.16", request)
}

fn user_add(name: &str, hashed: &str) -> Asked {
    asked().message(1100, asked().bytes(1, name).bytes(4, hashed))
}

fn role_add(name: &str) -> Asked {
    asked().message(1200, asked().bytes(1, name))
}

fn grant_role(user: &str, role: &str) -> Asked {
    asked().message(1104, asked().bytes(1, user).bytes(2, role))
}

fn permission(kind: u64, key: &[u8], range_end: &[u8]) -> Asked {
    let permission = asked().number(1, kind).bytes(2, key);
    if range_end.is_empty() { permission } else { permission.bytes(3, range_end) }
}

fn grant_permission(role: &str, permission: Asked) -> Asked {
    asked().message(1203, asked().bytes(1, role).message(2, permission))
}

fn row(small: &Small, bucket: Name, key: &str) -> Vec<u8> {
    small.get(bucket, key.as_bytes()).unwrap().to_vec()
}

fn current(small: &Small) -> u64 {
    revision(small).unwrap()
}

const INVALID_CHANGE: Applied = Applied::Nothing(Why::InvalidAuthChange);
const SO_ALREADY: Applied = Applied::Nothing(Why::AlreadySo);

/// The bytes are those that 3.5.30 wrote in `fixtures/3.5.30/single` for the same requests: options always there, roles in
/// order, nothing for what is empty.
#[test]
fn rows_in_the_bytes_of_a_server() {
    let mut small = Small::default();
    assert_eq!(does(&mut small, &user_add("u", "JDJhJA==")), Applied::Changed);
    assert_eq!(row(&small, Name::AuthUsers, "u"), b"\x0a\x01u\x12\x04$2a$\x22\x00");
    for role in ["r2", "r1"] {
        assert_eq!(does(&mut small, &role_add(role)), Applied::Changed);
        assert_eq!(does(&mut small, &grant_role("u", role)), Applied::Changed);
    }
    assert_eq!(row(&small, Name::AuthUsers, "u"), b"\x0a\x01u\x12\x04$2a$\x1a\x02r1\x1a\x02r2\x22\x00");
    assert_eq!(row(&small, Name::AuthRoles, "r1"), b"\x0a\x02r1");
    does(&mut small, &grant_permission("r1", permission(2, b"b", b"c")));
    does(&mut small, &grant_permission("r1", permission(0, b"a", b"")));
    assert_eq!(
        row(&small, Name::AuthRoles, "r1"),
        b"\x0a\x02r1\x12\x03\x12\x01a\x12\x08\x08\x02\x12\x01b\x1a\x01c"
    );
    // Same range again: another type, no second permission, and a new revision all the same.
    let before = current(&small);
    does(&mut small, &grant_permission("r1", permission(1, b"b", b"c")));
    assert_eq!(
        row(&small, Name::AuthRoles, "r1"),
        b"\x0a\x02r1\x12\x03\x12\x01a\x12\x08\x08\x01\x12\x01b\x1a\x01c"
    );
    assert_eq!(current(&small), before + 1);
    assert_eq!(small.get(Name::Auth, AUTH_REVISION).unwrap(), 9_u64.to_be_bytes());
}

#[test]
fn the_switch() {
    let mut small = Small::default();
    let (enable, disable) = (asked().message(1000, asked()), asked().message(1011, asked()));
    assert_eq!(does(&mut small, &disable), SO_ALREADY);
    assert_eq!(does(&mut small, &enable), INVALID_CHANGE);
    does(&mut small, &user_add("root", ""));
    assert_eq!(does(&mut small, &enable), INVALID_CHANGE, "root has no role");
    assert_eq!(does(&mut small, &grant_role("root", "root")), Applied::Changed, "the role needs no row");
    assert_eq!(current(&small), 3);
    assert_eq!(does(&mut small, &enable), Applied::Changed);
    assert_eq!((is_enabled(&small), current(&small)), (true, 3), "no new revision");
    assert_eq!(does(&mut small, &enable), SO_ALREADY);
    // While it is on, root is safe.
    let delete_root = asked().message(1101, asked().bytes(1, "root"));
    let revoke_root = asked().message(1105, asked().bytes(1, "root").bytes(2, "root"));
    let delete_role = asked().message(1201, asked().bytes(1, "root"));
    does(&mut small, &role_add("root"));
    for request in [&delete_root, &revoke_root, &delete_role] {
        assert_eq!(does(&mut small, request), INVALID_CHANGE);
    }
    assert_eq!(does(&mut small, &disable), Applied::Changed);
    assert_eq!(small.get(Name::Auth, AUTH_ENABLED).unwrap(), [0]);
    assert_eq!(current(&small), 5);
    for request in [&revoke_root, &delete_role, &delete_root] {
        assert_eq!(does(&mut small, request), Applied::Changed);
    }
    assert!(small.rows(Name::AuthUsers).is_empty() && small.rows(Name::AuthRoles).is_empty());
}

#[test]
fn changes_that_cannot_be_leave_everything_as_it_is() {
    let mut small = Small::default();
    does(&mut small, &user_add("u", ""));
    does(&mut small, &role_add("r"));
    does(&mut small, &grant_role("u", "r"));
    let before = small.clone();
    let user = |field, name: &str| asked().message(field, asked().bytes(1, name));
    for (request, applied) in [
        (user_add("u", ""), INVALID_CHANGE),
        (user_add("", ""), INVALID_CHANGE),
        (user_add("v", "no base64"), INVALID_CHANGE),
        (user(1101, "v"), INVALID_CHANGE),
        (user(1103, "v"), INVALID_CHANGE),
        (user(1201, "s"), INVALID_CHANGE),
        (role_add("r"), INVALID_CHANGE),
        (role_add(""), INVALID_CHANGE),
        (grant_role("u", "r"), SO_ALREADY),
        (grant_role("u", "s"), INVALID_CHANGE),
        (grant_role("v", "r"), INVALID_CHANGE),
        (asked().message(1105, asked().bytes(1, "u").bytes(2, "s")), INVALID_CHANGE),
        (grant_permission("s", permission(0, b"k", b"")), INVALID_CHANGE),
        (grant_permission("r", permission(0, b"", b"")), INVALID_CHANGE),
        (grant_permission("r", permission(0, b"k", b"k")), INVALID_CHANGE),
        (grant_permission("r", permission(0, b"k", b"a")), INVALID_CHANGE),
        (asked().message(1203, asked().bytes(1, "r")), INVALID_CHANGE),
        (asked().message(1204, asked().bytes(1, "r").bytes(2, "k")), INVALID_CHANGE),
    ] {
        assert_eq!(does(&mut small, &request), applied);
        assert_eq!(small, before);
    }
}

#[test]
fn older_patches_take_permissions_that_hold_no_key() {
    for (text, applied) in [
        ("3.4.24", Applied::Changed),
        ("3.4.25", INVALID_CHANGE),
        ("3.5.7", Applied::Changed),
        ("3.5.8", INVALID_CHANGE),
        ("3.7.0", INVALID_CHANGE),
    ] {
        let mut small = Small::default();
        does(&mut small, &role_add("r"));
        let request = grant_permission("r", permission(0, b"k", b"a"));
        assert_eq!(apply_as(&mut small, text, &request), applied, "{text}");
    }
}

#[test]
fn a_role_that_goes_leaves_every_user() {
    let mut small = Small::default();
    for role in ["r", "s"] {
        does(&mut small, &role_add(role));
        for user in ["u", "v"] {
            does(&mut small, &user_add(user, ""));
            does(&mut small, &grant_role(user, role));
        }
    }
    let before = current(&small);
    does(&mut small, &asked().message(1201, asked().bytes(1, "r")));
    assert_eq!(current(&small), before + 1);
    for user in ["u", "v"] {
        let row = UserRow::decode(row(&small, Name::AuthUsers, user).as_slice()).unwrap();
        assert_eq!(row.roles, [b"s"]);
    }
}

/// A log of 3.4 holds passwords themselves; one of 3.5 their hashes.
#[test]
fn passwords_by_release() {
    let plain = asked().message(1100, asked().bytes(1, "u").bytes(2, "secret"));
    let hash_of = |text: &str, request: &Asked| {
        let mut small = Small::default();
        assert_eq!(apply_as(&mut small, text, request), Applied::Changed);
        String::from_utf8(UserRow::decode(row(&small, Name::AuthUsers, "u").as_slice()).unwrap().password)
            .unwrap()
    };
    for text in ["3.4.23", "3.5.16"] {
        let hash = hash_of(text, &plain);
        assert!(hash.starts_with("$2a$10$"), "{hash}");
        assert!(bcrypt::verify("secret", &hash).unwrap());
        assert_eq!(hash, hash_of(text, &plain), "the same files give the same bytes");
    }
    let nothing = asked().message(1100, asked().bytes(1, "u"));
    assert!(bcrypt::verify("", &hash_of("3.4.23", &nothing)).unwrap());
    assert_eq!(hash_of("3.5.16", &nothing), "");
    let certificate = asked().message(1100, asked().bytes(1, "u").message(3, asked().number(1, 1)));
    assert_eq!(hash_of("3.4.23", &certificate), "");
    let long = asked().message(1100, asked().bytes(1, "u").bytes(2, "x".repeat(73)));
    assert!(bcrypt::verify("x".repeat(72), &hash_of("3.4.27", &long)).unwrap());
    assert_eq!(apply_as(&mut Small::default(), "3.4.28", &long), INVALID_CHANGE);
}

#[test]
fn a_user_without_a_password_gets_one_up_to_3_4() {
    for (text, len) in [("3.4.45", 60), ("3.5.16", 0)] {
        let mut small = Small::default();
        does(&mut small, &asked().message(1100, asked().bytes(1, "u").message(3, asked().number(1, 1))));
        let change = asked().message(1103, asked().bytes(1, "u").bytes(2, "secret"));
        assert_eq!(apply_as(&mut small, text, &change), Applied::Changed);
        let user = UserRow::decode(row(&small, Name::AuthUsers, "u").as_slice()).unwrap();
        assert_eq!(user.password.len(), len, "{text}");
        assert_eq!(user.options, Some(UserOptions { no_password: true }));
    }
}

#[test]
fn rows_that_cannot_be_read_stop_the_replay_and_change_nothing() {
    let mut small = Small::default();
    small.put(Name::AuthUsers, b"u", vec![0x0a, 9]);
    small.put(Name::Auth, AUTH_REVISION, vec![1]);
    let before = small.clone();
    let fails = |small: &mut Small, request: &Asked| {
        request.asks(|_, kind, message| apply(small, kind, message, &MOMENT, release("3.5.16")).unwrap_err())
    };
    for request in [user_add("u", ""), user_add("v", ""), role_add("r")] {
        assert!(matches!(fails(&mut small, &request), StopReason::Dies(_)));
    }
    assert_eq!(small, before);
}
