//! `kv get` and `kv list` print what etcdctl printed while the server was alive, and what `kv export` makes of a member boots.
//! About 45 s in all on two cores.
#![allow(clippy::unwrap_used, reason = "helpers of tests, which clippy does not see as tests")]

mod support;

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use rstest::rstest;
use serde_json::Value;
use support::{rescue, text};
use testdata::oracle::{Server, Tools, Version};

/// A member whose keys have been put, overwritten, deleted, created again, given leases, and compacted. Gives the compacted
/// revision.
fn used(server: &Server) -> i64 {
    let ctl = |args: &[&str]| server.etcdctl(args).ok().stdout;
    let granted = ctl(&["lease", "grant", "3600"]);
    let lease = granted.split_whitespace().nth(1).unwrap();
    for (at, key) in
        ["a", "b/1", "b/2", "b/3", "c", "d", "größe", "e \"quoted\"\n<&>\u{1}"].iter().enumerate()
    {
        server.put(key, "x".repeat(9 - at));
    }
    for (key, times) in [("b/2", 3), ("c", 2), ("a", 1)] {
        for round in 0..times {
            server.put(key, format!("{key} {round}"));
        }
    }
    ctl(&["put", "b/3", "leased", "--lease", lease]);
    assert_eq!(server.delete("d"), 1);
    assert_eq!(server.delete("c"), 1);
    let compacted = server.put("c", "again");
    server.put("empty", "");
    ctl(&["put", "--", "-dash", "--dash"]);
    server.put("a", "last");
    server.put("\u{10ffff}", "\u{10ffff}");
    server.compact(compacted);
    compacted
}

/// What a command printed, as bytes, and whether it liked what it was told.
fn printed(mut command: Command) -> (Vec<u8>, bool) {
    let output = command.stdin(Stdio::null()).output().unwrap();
    (output.stdout, output.status.success())
}

fn etcdctl(tools: &Tools, server: &Server, args: &[String]) -> (Vec<u8>, bool) {
    let mut command = tools.command("etcdctl");
    command.env("ETCDCTL_API", "3").args(["--endpoints", server.client_url()]).args(args);
    printed(command)
}

fn ours(input: &Path, args: &[String]) -> (Vec<u8>, bool) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_etcd-rescue"));
    let (get, rest) = args.split_first().unwrap();
    assert_eq!(get, "get");
    command.args(["kv", "get", text(input)]).args(rest);
    printed(command)
}

/// Keys that tie in all but their names, put by two transactions.
fn tied(server: &Server) {
    let put = |keys: &mut dyn Iterator<Item = u32>| {
        let puts: String = keys.map(|at| format!("put t/{at:03} v{}\n", at * 7 % 5)).collect();
        let mut command = server.tools().command("etcdctl");
        command.env("ETCDCTL_API", "3").args(["--endpoints", server.client_url(), "txn"]);
        let mut txn = command.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        txn.stdin.take().unwrap().write_all(format!("\n{puts}\n\n").as_bytes()).unwrap();
        assert!(txn.wait().unwrap().success());
    };
    put(&mut (0..120));
    put(&mut (0..120).filter(|at| at % 3 == 0));
}

/// The arguments of `etcdctl get` that are tried, each with each printer. Where results tie in what they are sorted by, their order
/// is that of Go's sort, which is not stable, and another one before Go 1.21: sorts are by what is different for every key,
/// but for those of [`TIED`].
fn lines(compacted: i64) -> Vec<Vec<String>> {
    let mut lines: Vec<String> = [
        "a",
        "nokey",
        "a c",
        "a a",
        "c a",
        "b --prefix",
        "b/1 --prefix",
        "zzz --prefix",
        "c --from-key",
        "c --from-key --limit 2",
        "b --prefix --limit 3",
        "b --prefix --limit 2",
        "b --prefix --limit -1",
        "a h --order DESCEND",
        "a h --order ASCEND --limit 2",
        "a h --order descend --limit 3",
        "a h --sort-by MODIFY",
        "a h --sort-by MODIFY --limit 2",
        "a h --sort-by MODIFY --order DESCEND",
        "a h --sort-by create --order ASCEND --limit 2",
        "a h --sort-by VALUE --order DESCEND",
        "b --prefix --sort-by VALUE --keys-only",
        "a h --sort-by KEY --order DESCEND --keys-only",
        "a h --keys-only",
        "a h --keys-only --limit 1",
        "größe",
        "empty",
        "b --prefix --consistency s",
    ]
    .map(str::to_owned)
    .to_vec();
    lines.extend((-1..6).map(|ahead| format!("a h --rev {}", compacted + ahead)));
    lines.push(format!("c --rev {compacted} --from-key"));
    lines.push("a --rev 99999".to_owned());
    let mut lines: Vec<Vec<String>> =
        lines.iter().map(|line| line.split(' ').map(str::to_owned).collect()).collect();
    let all = |flags: &[&str]| [&[""], flags].concat().into_iter().map(str::to_owned).collect();
    lines.push(all(&["--prefix"]));
    lines.push(all(&["--from-key", "--limit", "3"]));
    lines.push(all(&[]));
    lines
}

/// What is asked of servers whose Go sorts as ours does.
const TIED: [&str; 8] = [
    "t --prefix --sort-by VERSION",
    "t --prefix --sort-by VERSION --order DESCEND",
    "t --prefix --sort-by VALUE --order ASCEND --limit 50",
    "t --prefix --sort-by VALUE --order DESCEND",
    "t --prefix --sort-by CREATE --order DESCEND",
    "t --prefix --sort-by MODIFY --limit 60",
    "a z --sort-by VERSION",
    "a z --sort-by VERSION --order DESCEND --limit 40",
];

#[rstest]
#[ignore = "needs real etcd: scripts/test.sh runs it"]
fn oracle_kv_get_prints_what_etcdctl_printed(
    #[values(Version::V3_4, Version::V3_5_1, Version::V3_5New)] version: Version,
) {
    let scratch = tempfile::tempdir().unwrap();
    let data_dir = scratch.path().join("data");
    let mut server = Server::start(version, &data_dir, "m1", &[]);
    let compacted = used(&server);
    tied(&server);
    let tools = Tools::find(version);
    let mut asked = Vec::new();
    for line in lines(compacted) {
        let printers: [&[&str]; 6] = [
            &["-w", "simple"],
            &["-w", "json"],
            &["-w", "fields"],
            &["-w", "protobuf"],
            &["-w", "simple", "--hex"],
            &["--print-value-only"],
        ];
        for printer in printers {
            let mut args = vec!["get".to_owned()];
            args.extend(line.iter().cloned());
            args.extend(printer.iter().map(|arg| (*arg).to_owned()));
            let answer = etcdctl(&tools, &server, &args);
            asked.push((args, answer));
        }
    }
    // The others are built with Go 1.19 and 1.16, whose sorts leave what ties in other orders.
    for line in TIED.into_iter().filter(|_| version == Version::V3_5New) {
        let args: Vec<String> = format!("get {line} -w fields").split(' ').map(str::to_owned).collect();
        let answer = etcdctl(&tools, &server, &args);
        asked.push((args, answer));
    }
    if version != Version::V3_4 {
        let count = "get a h --count-only -w fields".split(' ').map(str::to_owned).collect::<Vec<_>>();
        let answer = etcdctl(&tools, &server, &count);
        asked.push((count, answer));
    }
    let (_, served) =
        etcdctl(&tools, &server, &["get".to_owned(), "a".to_owned(), "-w".to_owned(), "table".to_owned()]);
    assert!(!served);
    server.stop();
    let mut refused = 0;
    for (args, (stdout, succeeded)) in &asked {
        let (our_stdout, we_succeeded) = ours(&data_dir, args);
        let readable = String::from_utf8_lossy;
        assert_eq!(readable(&our_stdout), readable(stdout), "{args:?}");
        assert_eq!((&our_stdout, we_succeeded), (stdout, *succeeded), "{args:?}");
        refused += usize::from(!succeeded);
    }
    // The empty key, a revision that is gone and one to come, by each printer.
    assert_eq!(refused, 3 * 6, "of {}", asked.len());
    let table = rescue(["kv", "get", text(&data_dir), "a", "-w", "table"]);
    assert_eq!(
        (support::code(&table), table.stderr.as_str()),
        (4, "Error: table not supported as output format\n")
    );
}

/// The keys without what the server adds to them.
fn keys(server: &Server) -> (Vec<Value>, i64) {
    let all = server.get_all();
    (all.kvs, all.revision)
}

/// A database of some keys, restored and served: those keys at that revision, and a server that goes on from there.
#[rstest]
#[ignore = "needs real etcd: scripts/test.sh runs it"]
fn oracle_an_exported_database_boots(
    #[values(Version::V3_4, Version::V3_5_1, Version::V3_5New)] version: Version,
    #[values(false, true)] history: bool,
) {
    let scratch = tempfile::tempdir().unwrap();
    let data_dir = scratch.path().join("data");
    let mut server = Server::start(version, &data_dir, "m1", &[]);
    let compacted = used(&server);
    let (kvs, revision) = keys(&server);
    let at =
        |rev: i64| server.etcdctl(["get", "--prefix", "b", "-w", "json", "--rev", &rev.to_string()]).json();
    let expected: Vec<Value> = at(0)["kvs"].as_array().unwrap().clone();
    let earlier = at(compacted)["kvs"].clone();
    assert!(expected.len() < kvs.len());
    server.stop();

    let output = scratch.path().join("b.db");
    let mut args = vec!["kv", "export", text(&data_dir), "--prefix", "b", "--as", "db", "-o", text(&output)];
    args.extend(history.then_some("--history"));
    rescue(&args).ok();
    let restored = scratch.path().join("restored");
    rescue(["snapshot", "restore", text(&output), "--skip-hash-check", "--data-dir", text(&restored)]).ok();
    let mut server = Server::start(version, &restored, "default", &[]);
    let read = |server: &Server, rev: i64| {
        server.etcdctl(["get", "", "--prefix", "-w", "json", "--rev", &rev.to_string()])
    };
    let now = read(&server, 0).json();
    assert_eq!(now["kvs"].as_array().unwrap(), &expected);
    assert_eq!(now["header"]["revision"].as_i64().unwrap(), revision);
    // Without its history the store is compacted at its revision, with it where it was.
    let before = read(&server, if history { compacted } else { revision - 1 });
    if history {
        assert_eq!(before.json()["kvs"], earlier);
    } else {
        assert!(before.stderr.contains("required revision has been compacted"), "{before:?}");
    }
    assert_eq!(server.delete("b/1"), 1);
    assert_eq!(server.put("b/4", "new"), revision + 2);
    server.compact(revision + 1);
    let after = keys(&server);
    let hash = server.hashkv(0).hash;
    server.restart();
    assert_eq!(keys(&server), after);
    assert_eq!(server.hashkv(0).hash, hash);
    server.stop();
}
