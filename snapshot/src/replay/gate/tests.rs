use super::*;
use crate::replay::asked::{Asked, asked};
use crate::schema::{AUTH_ENABLED, AUTH_REVISION, Permission};

const REVISION: u64 = 9;

/// Authentication on, root, and `u` with the permissions given.
fn small(permissions: &[(i32, &[u8], &[u8])]) -> Small {
    let mut small = Small::default();
    small.put(Name::Auth, AUTH_ENABLED, vec![1]);
    small.put(Name::Auth, AUTH_REVISION, REVISION.to_be_bytes().to_vec());
    for (name, role) in [(&b"root"[..], &b"root"[..]), (b"u", b"r"), (b"nobody", b"gone")] {
        let row = UserRow { name: name.to_vec(), roles: vec![role.to_vec()], ..UserRow::default() };
        small.put(Name::AuthUsers, name, row.encode_to_vec());
    }
    let permissions = permissions.iter().map(|(kind, key, range_end)| Permission {
        kind: *kind,
        key: key.to_vec(),
        range_end: range_end.to_vec(),
    });
    let row = RoleRow { name: b"r".to_vec(), permissions: permissions.collect() };
    small.put(Name::AuthRoles, b"r", row.encode_to_vec());
    small
}

/// What becomes of `request`, asked by `user` at `revision`, with the key `leased` on lease 7.
fn verdict(small: &Small, text: &str, (user, revision): (&str, u64), request: Asked) -> Verdict {
    let request = request.message(100, asked().number(1, 5).bytes(2, user).number(3, revision));
    let mut attached = |lease: i64| Ok(if lease == 7 { vec![b"leased".to_vec()] } else { Vec::new() });
    request.asks(|header, kind, message| {
        let gate = &mut Gate::default();
        gate.admit(small, text.parse().unwrap(), (header, kind, message), &mut attached).unwrap()
    })
}

const NOW: u64 = REVISION;
const DENIED: Verdict = Verdict::Refused(Why::Denied);
const OLD: Verdict = Verdict::Refused(Why::OldAuthRevision);

fn put(key: &str) -> Asked {
    asked().bytes(1, key)
}

fn range(key: &[u8], range_end: &[u8]) -> Asked {
    let range = asked().bytes(1, key);
    if range_end.is_empty() { range } else { range.bytes(2, range_end) }
}

fn delete(key: &[u8], range_end: &[u8]) -> Asked {
    asked().message(5, range(key, range_end))
}

#[test]
fn who_asks() {
    let small = small(&[(2, b"a", b"")]);
    let of = |who| verdict(&small, "3.5.16", who, asked().message(4, put("a")));
    assert_eq!(of(("u", NOW)), Verdict::Admitted);
    assert_eq!(of(("u", NOW + 1)), Verdict::Admitted);
    assert_eq!(of(("u", NOW - 1)), OLD);
    assert_eq!(of(("root", NOW - 1)), OLD);
    assert_eq!(of(("root", 0)), DENIED);
    assert_eq!(of(("", NOW)), DENIED);
    assert_eq!(of(("stranger", NOW)), DENIED);
    assert_eq!(of(("nobody", NOW)), DENIED);
    let mut off = small.clone();
    off.put(Name::Auth, AUTH_ENABLED, vec![0]);
    assert_eq!(verdict(&off, "3.5.16", ("", 0), asked().message(4, put("a"))), Verdict::Admitted);
}

#[test]
fn only_root_administers_and_at_any_revision() {
    let small = small(&[(2, b"\0", b"\0")]);
    let request = asked().message(1200, asked().bytes(1, "new"));
    let of = |who| verdict(&small, "3.5.16", who, request.clone());
    assert_eq!(of(("root", 1)), Verdict::Admitted);
    assert_eq!(of(("u", NOW)), DENIED);
    assert_eq!(of(("", 0)), DENIED);
    for free in [
        asked().message(7, asked().number(1, 3)),
        asked().message(8, asked().number(2, 3)),
        asked().message(10, asked().number(1, 1)),
    ] {
        assert_eq!(verdict(&small, "3.5.16", ("", 0), free), Verdict::Admitted);
    }
}

#[test]
fn ranges_are_covered_by_several_permissions_without_a_gap() {
    let small = small(&[
        (1, b"a", b"c"),
        (1, b"c", b"e"),
        (1, b"d", b"f"),
        (1, b"g", b""),
        (1, b"m", b"\0"),
        (1, b"k", b"j"),
        (0, b"f", b"g"),
    ]);
    for (key, range_end, admitted) in [
        (&b"a"[..], &b"f"[..], true),
        (b"b", b"e", true),
        (b"a", b"f\0", false),
        (b"a", b"g", false),
        (b"g", b"", true),
        (b"g", b"g\0", true),
        (b"g", b"h", false),
        (b"g\0", b"", false),
        (b"f", b"", false),
        (b"m", b"\0", true),
        (b"z", b"\0", true),
        (b"a", b"\0", false),
        (b"l", b"\0", false),
        (b"k", b"", false),
        (b"j", b"k", false),
        (b"zzz", b"", true),
        (b"A", b"", false),
    ] {
        let got = verdict(&small, "3.5.16", ("u", NOW), delete(key, range_end));
        let want = if admitted { Verdict::Admitted } else { DENIED };
        assert_eq!(got, want, "{key:?} {range_end:?}");
    }
}

#[test]
fn what_comes_back_must_be_readable() {
    let small = small(&[(1, b"w", b""), (0, b"r", b""), (2, b"b", b"")]);
    let of = |request| verdict(&small, "3.5.16", ("u", NOW), request);
    for (key, silent, telling) in
        [("w", Verdict::Admitted, DENIED), ("r", DENIED, DENIED), ("b", Verdict::Admitted, Verdict::Admitted)]
    {
        assert_eq!(of(asked().message(4, put(key))), silent);
        assert_eq!(of(asked().message(4, put(key).number(4, 1))), telling);
        assert_eq!(of(delete(key.as_bytes(), b"")), silent);
        assert_eq!(of(asked().message(5, range(key.as_bytes(), b"").number(3, 1))), telling);
    }
}

#[test]
fn leases_with_keys_of_others() {
    let small = small(&[(1, b"w", b"")]);
    let with_lease = |lease| asked().message(4, put("w").number(3, lease));
    assert_eq!(verdict(&small, "3.5.16", ("u", NOW), with_lease(7)), DENIED);
    assert_eq!(verdict(&small, "3.5.16", ("u", NOW), with_lease(8)), Verdict::Admitted);
    let revoke = |lease| asked().message(9, asked().number(1, lease));
    assert_eq!(verdict(&small, "3.5.16", ("u", NOW), revoke(7)), DENIED);
    assert_eq!(verdict(&small, "3.5.16", ("", 0), revoke(8)), Verdict::Admitted);
    for (text, old) in
        [("3.4.26", OLD), ("3.4.27", Verdict::Admitted), ("3.5.9", OLD), ("3.5.10", Verdict::Admitted)]
    {
        assert_eq!(verdict(&small, text, ("root", 1), revoke(7)), old, "{text}");
    }
}

/// A transaction with these operations in its success branch.
fn txn(operations: Vec<Asked>) -> Asked {
    operations.into_iter().fold(asked(), |txn, operation| txn.message(2, operation))
}

#[test]
fn both_branches_and_all_compares_of_a_transaction() {
    let small = small(&[(1, b"w", b""), (0, b"r", b"")]);
    let of = |txn| verdict(&small, "3.5.16", ("u", NOW), asked().message(6, txn));
    let write = |key: &str| asked().message(2, put(key));
    assert_eq!(of(asked()), Verdict::Admitted);
    assert_eq!(of(asked().message(2, write("w"))), Verdict::Admitted);
    assert_eq!(of(asked().message(3, write("r"))), DENIED);
    assert_eq!(of(asked().message(1, asked().bytes(3, "r"))), Verdict::Admitted);
    assert_eq!(of(asked().message(1, asked().bytes(3, "w"))), DENIED);
    assert_eq!(of(asked().message(1, asked().bytes(3, "r").bytes(64, "s"))), DENIED);
    assert_eq!(of(txn(vec![write("w"), asked().message(3, range(b"x", b""))])), DENIED);
    let nobody = verdict(&small, "3.5.16", ("", 0), asked().message(6, asked()));
    assert_eq!(nobody, Verdict::Admitted, "there is nothing to ask about");
}

#[test]
fn reads_that_a_starting_server_leaves_out() {
    let small = small(&[(1, b"w", b"")]);
    let read = asked().message(1, range(b"w", b""));
    let write = asked().message(2, put("w"));
    let request = asked().message(6, txn(vec![read.clone(), write]));
    assert_eq!(verdict(&small, "3.6.14", ("u", NOW), request.clone()), Verdict::AdmittedWithoutReads);
    assert_eq!(verdict(&small, "3.7.1", ("u", NOW), request), DENIED);
    let nested = asked().message(6, txn(vec![asked().message(4, txn(vec![read]))]));
    assert_eq!(verdict(&small, "3.6.14", ("u", NOW), nested), DENIED);
}

#[test]
fn holes_that_patches_closed() {
    let small = small(&[(1, b"w", b"")]);
    let nested = asked().message(6, txn(vec![asked().message(4, txn(vec![asked().message(2, put("x"))]))]));
    let leased = asked().message(6, txn(vec![asked().message(2, put("w").number(3, 7))]));
    let telling = asked().message(6, txn(vec![asked().message(2, put("w").number(4, 1))]));
    for (text, in_nested, of_puts) in [
        ("3.4.41", Verdict::Admitted, Verdict::Admitted),
        ("3.4.42", DENIED, Verdict::Admitted),
        ("3.4.44", DENIED, DENIED),
        ("3.5.27", Verdict::Admitted, Verdict::Admitted),
        ("3.5.28", DENIED, Verdict::Admitted),
        ("3.5.30", DENIED, DENIED),
        ("3.6.8", Verdict::Admitted, Verdict::Admitted),
        ("3.6.9", DENIED, Verdict::Admitted),
        ("3.6.11", DENIED, DENIED),
        ("3.7.0", DENIED, DENIED),
    ] {
        let of = |request: &Asked| verdict(&small, text, ("u", NOW), request.clone());
        assert_eq!((of(&nested), of(&leased), of(&telling)), (in_nested, of_puts, of_puts), "{text}");
    }
}

#[test]
fn transactions_deep_in_each_other_are_no_recursion() {
    let small = small(&[(1, b"w", b"")]);
    let mut inner = txn(vec![asked().message(2, put("x"))]);
    for _ in 0..2000 {
        inner = txn(vec![asked().message(4, inner)]);
    }
    assert_eq!(verdict(&small, "3.7.0", ("u", NOW), asked().message(6, inner)), DENIED);
}

#[test]
fn what_was_known_of_a_user_is_forgotten_when_told() {
    let mut small = small(&[(1, b"w", b"")]);
    let mut gate = Gate::default();
    let ask = |small: &Small, gate: &mut Gate| {
        let request = asked().message(4, put("w")).message(100, asked().bytes(2, "u").number(3, NOW));
        request.asks(|header, kind, message| {
            let nothing = &mut |_| Ok(Vec::new());
            gate.admit(small, Release::NEWEST, (header, kind, message), nothing).unwrap()
        })
    };
    assert_eq!(ask(&small, &mut gate), Verdict::Admitted);
    small.delete(Name::AuthRoles, b"r");
    gate.forget();
    assert_eq!(ask(&small, &mut gate), DENIED);
}
