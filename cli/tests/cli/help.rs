//! Help, version, completions and man pages: all from the one definition.

use insta::assert_snapshot;
use rstest::rstest;

use crate::run::Room;

#[test]
fn short_help() {
    assert_snapshot!(Room::new().run("-h").stdout, @r"
    Opens, checks and restores etcd data from the files alone

    Usage: etcd-rescue [OPTIONS] <COMMAND>

    Commands:
      inspect         Says on one page what a path is, how its data stands, and what to run next
      recover         Makes a new cluster of what is left of the members of one that died
      salvage         Gets the keys out of a database that etcd cannot open, and says what is missing
      snapshot        Looks into, makes and restores snapshots
      wal             Reads and verifies the log
      snap            Looks into the .snap files beside a database
      bbolt           Looks into, checks and mends bbolt files of any kind, as the bbolt tool does
      kv              Reads the versioned keys, at any revision that is kept
      lease           Lists leases and the keys that hang on them
      auth            Shows users and roles, and gets back in
      alarm           Lists and takes away the alarms that keep a cluster from taking writes
      cluster         Changes who belongs to a cluster
      member          Lists the members of a cluster and where they live, and changes that
      v2              Lists the keys of the v2 API, and moves them to the v3 API
      verify          Checks everything there is of a member, a db, a snapshot or a log, and tells how a
                      start would go
      compare         Ranks what is left of a cluster's members, and tells where they part and what is
                      certain
      case            Keeps what many nodes hold in one file, answers questions about it, and writes a
                      report
      list-bucket     Lists the buckets of a db
      iterate-bucket  Prints the pairs of a bucket, from the last to the first
      hash            Prints the hash of all buckets that a server of 3.6 or 3.7 would answer
      hashkv          Prints the hash of the key space, by which members are compared
      scan-keys       Prints the revisions on all pages of a db, also on those that are not in use any
                      more
      defrag          Gives the free pages of a member's database back, as etcdutl defrag does
      backup          Copies a member's directory under another identity, as etcdctl backup of 3.4 and
                      etcdutl backup of 3.5 do
      compact         Writes a compacted and defragmented copy of a database, snapshot or data dir
      migrate         Makes a member's database fit another minor version of etcd, as etcdutl migrate
                      does
      completion      Prints completions for a shell
      man             Prints the manual page, or writes one for each command
      version         Prints the version
      help            Print this message or the help of the given subcommand(s)

    Options:
      -h, --help     Print help (see more with '--help')
      -V, --version  Print version

    Global options:
      -w, --write-out <FORMAT>  How the result is printed [protobuf: only where etcdctl has it]
                                [default: simple] [possible values: simple, table, json, fields]
          --timeout <DURATION>  How long to wait for the lock a running etcd holds; 0 waits for ever
                                [default: 10s]
          --no-lock[=<BOOL>]    Read without a lock: read-only media, file systems without locks
          --io <HOW>            How files are read; pread for dying disks [default: mmap] [possible
                                values: mmap, pread]
          --tmp-dir <DIR>       Where compressed input is unpacked, to a file without a name [default:
                                the system's]
      -q, --quiet[=<BOOL>]      No progress and no story on stderr: only warnings, findings and errors
          --log-level <LEVEL>   Log on stderr from this level on [default: warn] [possible values:
                                debug, info, warn, error]

    Example:
      etcd-rescue snapshot restore snapshot.db --all-members -o restored \
        --initial-cluster m1=http://10.0.0.1:2380,m2=http://10.0.0.2:2380,m3=http://10.0.0.3:2380
    ");
}

#[test]
fn help_of_snapshot() {
    assert_snapshot!(Room::new().run("snapshot -h").stdout, @r"
    Looks into, makes and restores snapshots

    Usage: etcd-rescue snapshot [OPTIONS] <COMMAND>

    Commands:
      status   Tells hash, revision, number of keys, size and version of a snapshot, and whether it is
               sound
      restore  Turns a snapshot into data dirs that etcd boots from, as members of a new cluster
      save     Makes a snapshot, with its integrity hash, from the files of a member that does not run
      hash     Verifies the SHA-256 a snapshot carries, or attaches one
      help     Print this message or the help of the given subcommand(s)

    Options:
      -h, --help     Print help (see more with '--help')
      -V, --version  Print version

    Global options:
      -w, --write-out <FORMAT>  How the result is printed [protobuf: only where etcdctl has it]
                                [default: simple] [possible values: simple, table, json, fields]
          --timeout <DURATION>  How long to wait for the lock a running etcd holds; 0 waits for ever
                                [default: 10s]
          --no-lock[=<BOOL>]    Read without a lock: read-only media, file systems without locks
          --io <HOW>            How files are read; pread for dying disks [default: mmap] [possible
                                values: mmap, pread]
          --tmp-dir <DIR>       Where compressed input is unpacked, to a file without a name [default:
                                the system's]
      -q, --quiet[=<BOOL>]      No progress and no story on stderr: only warnings, findings and errors
          --log-level <LEVEL>   Log on stderr from this level on [default: warn] [possible values:
                                debug, info, warn, error]
    ");
}

#[test]
fn long_help_of_restore() {
    assert_snapshot!(Room::new().run("snapshot restore --help").stdout, @r"
    Turns a snapshot into data dirs that etcd boots from, as members of a new cluster

    The flags are those of etcdutl 3.7. With --all-members one run writes the directories of all
    members; otherwise run it once for each member, from the same snapshot. The result appears under its
    name only when it was written, synced, read back and verified. At the end it says what to run next:
    on stderr, or with --emit on stdout.

    Usage: etcd-rescue snapshot restore [OPTIONS] <FILE|DIR>

    Arguments:
      <FILE|DIR>
              A snapshot; a member's data dir or member dir, whose log is folded in; with
              --skip-hash-check also a db file

    Options:
          --data-dir <DIR>
              The data dir to write; it must not exist or be empty [default: NAME.etcd]

          --wal-dir <DIR>
              The WAL dir to write [default: member/wal in the data dir]

          --initial-cluster <MEMBERS>
              The members of the new cluster, as NAME=URL with commas between them
              
              [default: default=http://localhost:2380]

          --initial-cluster-token <TOKEN>
              The token of the new cluster, from which its IDs are made
              
              [default: etcd-cluster]

          --initial-advertise-peer-urls <URLS>
              This member's peer URLs, as in --initial-cluster
              
              [default: http://localhost:2380]

          --name <NAME>
              This member's name
              
              [default: default]

          --skip-hash-check[=<BOOL>]
              Take input without a SHA-256, or with a wrong one

          --input-wal-dir <DIR>
              The log of the input, where etcd was given a directory of its own for it; for a file, the
              log to fold into it

          --no-replay[=<BOOL>]
              Take the database alone, without what only the log holds

          --to-index <N>
              Apply the log up to this raft index

          --to-revision <N>
              Apply the log as far as this revision lasts: up to the write that makes the next one

          --as-etcd <X.Y.Z>
              The release whose rules hold while the log is applied [default: the last of the minor
              version that wrote the data]

          --initial-memory-map-size <BYTES>
              Accepted for etcdutl's sake: nothing is mapped that would need it

          --at-revision <REVISION>
              Take the keys back to this revision; leases, users and roles stay as they are

          --bump-revision <REVISIONS|auto>
              By how much to raise the latest revision, so that watchers of the old cluster notice; auto
              is 10^9, or 10^6 above all that the input and --seen show that clients may have seen,
              whichever is more
              
              [default: 0]

          --mark-compacted[=<BOOL>]
              Mark everything below the raised revision as compacted; required with --bump-revision
              above 0, implied by auto

          --seen <PATH>...
              With --bump-revision auto: what else is left of the cluster: data dirs, dbs, snapshots,
              logs

          --all-members[=<BOOL>]
              Write the directory of every member of --initial-cluster

      -o, --output <DIR>
              With --all-members: where the members' directories go, each under its name

          --target-version <VERSION>
              The etcd version that will start it: 3.4, 3.5, 3.6 or 3.7 [default: told from the data]

          --keep-alarms[=<BOOL>]
              Keep alarms, though the members they name are gone

          --dry-run[=<BOOL>]
              Do everything but write

          --clean[=<BOOL>]
              Remove what earlier, killed runs left at the same place

          --owner <USER[:GROUP]>
              Who owns the output, by name or number

          --emit <FORM>
              What to print on stdout about starting the members

              Possible values:
              - flags:      Commands for a shell
              - env:        Environment files
              - systemd:    systemd units
              - static-pod: Static pods, as kubeadm has them

      -h, --help
              Print help (see a summary with '-h')

      -V, --version
              Print version

    Global options:
      -w, --write-out <FORMAT>
              How the result is printed [protobuf: only where etcdctl has it]

              Possible values:
              - simple: Values separated by commas, one line each
              - table:  A box
              - json:   One object
              - fields: A line for each field
              
              [default: simple]

          --timeout <DURATION>
              How long to wait for the lock a running etcd holds; 0 waits for ever
              
              [default: 10s]

          --no-lock[=<BOOL>]
              Read without a lock: read-only media, file systems without locks

          --io <HOW>
              How files are read; pread for dying disks

              Possible values:
              - mmap:  Mapped into memory
              - pread: Read piece by piece
              
              [default: mmap]

          --tmp-dir <DIR>
              Where compressed input is unpacked, to a file without a name [default: the system's]

      -q, --quiet[=<BOOL>]
              No progress and no story on stderr: only warnings, findings and errors

          --log-level <LEVEL>
              Log on stderr from this level on

              Possible values:
              - debug: Everything
              - info:  What is going on
              - warn:  What looks wrong
              - error: What is wrong
              
              [default: warn]

    Flags of etcdctl that are accepted and ignored, with a warning:
          --endpoints <URLS>
              Servers to connect to

          --cacert <FILE>
              The CA bundle for servers' certificates

          --cert <FILE>
              The client's certificate

          --key <FILE>
              The client's key

          --user <USER>
              User name and password

          --password <PASSWORD>
              Password

          --auth-jwt-token <TOKEN>
              Token of a user

          --insecure-skip-tls-verify[=<BOOL>]
              No check of the server's certificate

          --insecure-transport[=<BOOL>]
              No TLS

          --insecure-discovery[=<BOOL>]
              SRV records that may be insecure

      -d, --discovery-srv <DOMAIN>
              Domain whose SRV records name the endpoints

          --discovery-srv-name <NAME>
              Service name in those records

          --dial-timeout <DURATION>
              Time to connect

          --command-timeout <DURATION>
              Time for a command

          --keepalive-time <DURATION>
              Time between keep-alives

          --keepalive-timeout <DURATION>
              Time for a keep-alive

          --max-request-bytes <BYTES>
              Longest request

          --max-recv-bytes <BYTES>
              Longest answer

          --hex[=<BOOL>]
              Byte strings in hexadecimal

          --debug[=<BOOL>]
              The client's own log

          --ca-file <FILE>
              The CA bundle for servers' certificates, as etcdctl 2 called it

          --cert-file <FILE>
              The client's certificate, as etcdctl 2 called it

          --key-file <FILE>
              The client's key, as etcdctl 2 called it

          --no-sync[=<BOOL>]
              No look for further servers, in etcdctl 2

          --total-timeout <DURATION>
              Time for a command, as etcdctl 2 called it

    Example:
      etcd-rescue snapshot restore snapshot.db --all-members -o restored \
        --initial-cluster m1=http://10.0.0.1:2380,m2=http://10.0.0.2:2380,m3=http://10.0.0.3:2380
      etcd-rescue snapshot restore /mnt/dead/var/lib/etcd --data-dir=/var/lib/etcd
    ");
}

#[rstest]
#[case("")]
#[case("snapshot status")]
#[case("snapshot save")]
#[case("snapshot hash")]
#[case("snapshot restore")]
#[case("compare")]
#[case("completion")]
#[case("man")]
#[case("version")]
fn every_command_has_an_example_and_lines_that_fit(#[case] command: &str) {
    for flag in ["-h", "--help"] {
        let ran = Room::new().run(&format!("{command} {flag}"));
        assert_eq!((ran.code, ran.stderr.as_str()), (0, ""));
        assert!(ran.stdout.contains("\nExample:\n  etcd-rescue "), "{}", ran.stdout);
        assert!(ran.stdout.lines().all(|line| line.chars().count() <= 100), "{}", ran.stdout);
        // The flags of etcdctl are for the long help.
        assert_eq!(ran.stdout.contains("--cacert"), flag == "--help", "{}", ran.stdout);
    }
}

#[test]
fn version() {
    let room = Room::new();
    let number = env!("CARGO_PKG_VERSION");
    let ran = room.run("version");
    assert_eq!(ran.stdout, format!("etcd-rescue version: {number}\nWrites data for etcd: 3.4 3.5 3.6 3.7\n"));
    assert_eq!(room.run("version -w json").json()["version"], number);
    for line in ["--version", "-V", "snapshot --version", "snapshot status --version", "-w json snapshot -V"]
    {
        assert_eq!(room.run(line), ran, "{line}");
    }
}

#[rstest]
#[case("bash", "complete -F _etcd__rescue")]
#[case("zsh", "#compdef etcd-rescue")]
#[case("fish", "complete -c etcd-rescue")]
#[case("powershell", "Register-ArgumentCompleter")]
fn completions(#[case] shell: &str, #[case] piece: &str) {
    let ran = Room::new().run(&format!("completion {shell}"));
    assert_eq!((ran.code, ran.stderr.as_str()), (0, ""));
    assert!(ran.stdout.contains(piece), "{}", ran.stdout);
    assert!(ran.stdout.contains("bump-revision"), "{}", ran.stdout);
}

#[test]
fn man_pages() {
    let room = Room::new();
    let main = room.run("man");
    assert!(main.stdout.contains(".TH etcd-rescue 1"), "{}", main.stdout);
    let ran = room.run("man share/man1");
    assert_eq!((ran.code, ran.stdout.as_str()), (0, "share/man1\n"));
    let page = String::from_utf8(room.read("share/man1/etcd-rescue-snapshot-restore.1")).expect("text");
    assert!(page.contains("initial\\-cluster\\-token"), "{page}");
}
