//! Arguments that make no sense, and those that only old runbooks carry.

use insta::assert_snapshot;
use rstest::rstest;

use crate::run::Room;

#[rstest]
#[case("snapshot status", "required arguments")]
#[case("snapshot frobnicate", "unrecognized subcommand 'frobnicate'")]
#[case("snapshot status a b", "unexpected argument 'b'")]
#[case("snapshot status a --no-such-flag", "unexpected argument '--no-such-flag'")]
#[case("snapshot status a -w yaml", "invalid value 'yaml'")]
#[case("snapshot status a --timeout 10", "is not a duration such as 10s")]
#[case("snapshot status a --timeout -1s", "is negative")]
#[case("snapshot status a --no-lock=maybe", "neither true nor false")]
#[case("snapshot status a --io carrier-pigeon", "invalid value 'carrier-pigeon'")]
#[case("snapshot", "Usage: etcd-rescue snapshot")]
#[case("", "Usage: etcd-rescue")]
fn usage_errors(#[case] line: &str, #[case] text: &str) {
    let ran = Room::new().run(line);
    assert_eq!((ran.code, ran.stdout.as_str()), (2, ""), "{ran:?}");
    assert!(ran.stderr.contains(text), "{}", ran.stderr);
}

#[rstest]
#[case("--write-out=fields snapshot status snapshot.db")]
#[case("snapshot --write-out fields status snapshot.db")]
#[case("snapshot status -w=fields snapshot.db")]
#[case("snapshot status snapshot.db -wfields")]
#[case("snapshot status snapshot.db -qw fields")]
#[case("-w json snapshot status snapshot.db -w fields")]
#[case("snapshot status snapshot.db -w json -w fields --timeout=0 --no-lock=false --tmp-dir=.")]
fn global_flags_anywhere_and_the_last_one_wins(#[case] line: &str) {
    let ran = Room::with_snapshot("3.5.30", "s3-final").run(line);
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(ran.stdout.starts_with("\"Hash\" : 1025184489\n"), "{ran:?}");
}

#[test]
fn every_connection_flag_is_taken_and_named() {
    let room = Room::with_snapshot("3.5.30", "s3-final");
    let ran = room.run(
        "--endpoints http://h:2379 --cacert=ca --cert c --key k --user u:p --password secret --auth-jwt-token t \
         --insecure-skip-tls-verify --insecure-transport=false -d example.org --insecure-discovery \
         snapshot --discovery-srv-name n --dial-timeout=2s status --command-timeout 5s --keepalive-time=2s \
         --keepalive-timeout 6s --max-request-bytes 1 --max-recv-bytes 1 --hex --debug snapshot.db -q \
         --ca-file ca --cert-file=c --key-file k --no-sync --total-timeout 5s",
    );
    assert_eq!(ran.code, 0, "{ran:?}");
    assert_snapshot!(ran.stderr, @r"warning: --endpoints, --cacert, --cert, --key, --user, --password, --auth-jwt-token, --insecure-skip-tls-verify, --insecure-discovery, --discovery-srv, --discovery-srv-name, --dial-timeout, --command-timeout, --keepalive-time, --keepalive-timeout, --max-request-bytes, --max-recv-bytes, --hex, --debug, --ca-file, --cert-file, --key-file, --no-sync, --total-timeout are ignored: etcd-rescue reads files and connects to nothing, so they may be left out");
}

#[test]
fn one_connection_flag() {
    let room = Room::with_snapshot("3.5.30", "s3-final");
    let ran = room.run("snapshot status snapshot.db --endpoints h:2379 --quiet");
    assert_snapshot!(ran.stderr, @r"warning: --endpoints is ignored: etcd-rescue reads files and connects to nothing, so it may be left out");
}

#[test]
fn the_environment_of_etcdctl_changes_nothing() {
    let room = Room::with_snapshot("3.5.30", "s3-final");
    let plain = room.run("snapshot status snapshot.db");
    let mut command = room.command();
    command.env("ETCDCTL_API", "2").env("ETCDCTL_WRITE_OUT", "json").env("ETCDCTL_ENDPOINTS", "http://h:1");
    let output = command.args(["snapshot", "status", "snapshot.db"]).output().expect("it runs");
    assert_eq!(String::from_utf8_lossy(&output.stdout), plain.stdout);
    assert_eq!(String::from_utf8_lossy(&output.stderr), plain.stderr);
}
