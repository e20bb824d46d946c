//! Hosts on one machine: each a directory for its files, an address of the loopback network for its servers, and a shell.
//!
//! What a page says is run as it stands, but for this table, and for the programs in [`SHIMS`], which need a machine to themselves:
//!
//! | in the page | here |
//! |---|---|
//! | `10.0.0.N` | an address of a network 127.N.N.0 that no other test has; the ports are the page's |
//! | `127.0.0.1`, and etcdctl without `--endpoints` | the host's own such address |
//! | `/var/…`, `/etc/default/…`, `/etc/etcd/…`, `/etc/kubernetes/…` | the same path below the host's directory |
//! | `etcd:etcd` | who runs the test |

use std::collections::{BTreeMap, BTreeSet};
use std::env;
use std::fmt::Write as _;
use std::fs::{self, File, Permissions};
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use testdata::oracle::{Run, Tools, Version};

use super::page::{Block, Page};

/// Directories of a host that pages name.
const PLACES: [&str; 4] = ["/var/", "/etc/default/", "/etc/etcd/", "/etc/kubernetes/"];

/// What stands in for programs. `etcdctl` is the real one, which asks this host's server unless told otherwise. `systemctl` knows one unit, etcd with its settings in /etc/default/etcd, of type
/// notify: a start returns when the member has a leader. Paths and 127.0.0.1 of the settings it takes by the table; and since `--emit` numbers
/// the client ports of members that share the loopback network, which these hosts do not, it makes them 2379. `scp` copies to and from the directories of hosts. `crictl` lists what the kubelet
/// of the test runs.
const SHIMS: [(&str, &str); 4] = [
    (
        "etcdctl",
        r#"#!/bin/sh
case " $* " in
*' --endpoints'*) ;;
*) set -- --endpoints "$ENDPOINT" "$@" ;;
esac
exec real-etcdctl "$@"
"#,
    ),
    (
        "systemctl",
        r#"#!/bin/sh
cd "$HOST" || exit 1
case "$*" in
'start etcd')
    sed "s|=/var/|=$HOST/var/|; s|=/etc/|=$HOST/etc/|; s|127\.0\.0\.1|$ADDRESS|g; s|:2[45]79|:2379|g" etc/default/etcd >etcd.settings
    set -a
    . ./etcd.settings
    set +a
    etcd >>etcd.log 2>&1 </dev/null &
    pid=$!
    echo $pid >etcd.pid
    tries=0
    case "$ETCD_LISTEN_CLIENT_URLS" in
    https*)
        set -- --endpoints "https://$ADDRESS:2379" --cacert "$ETCD_TRUSTED_CA_FILE" --cert "$ETCD_CERT_FILE" --key "$ETCD_KEY_FILE" ;;
    *) set -- ;;
    esac
    until etcdctl "$@" endpoint status -w json 2>/dev/null | grep -q '"leader":[1-9]'; do
        [ -e /proc/$pid/exe ] || { echo "etcd ended: $(tail -n 3 etcd.log)" >&2; exit 1; }
        tries=$((tries + 1))
        [ $tries -lt 150 ] || { echo 'etcd has no leader' >&2; exit 1; }
        sleep 0.1
    done ;;
'stop etcd')
    [ -e etcd.pid ] || exit 0
    pid=$(cat etcd.pid)
    kill "$pid" 2>/dev/null
    while [ -e "/proc/$pid/exe" ]; do sleep 0.05; done
    rm etcd.pid ;;
*)
    echo "systemctl $*: not here" >&2
    exit 4 ;;
esac
"#,
    ),
    (
        "scp",
        r#"#!/bin/sh
recursive=
case "$1" in -*) recursive=$1; shift ;; esac
place() {
    case "$1" in
    *:/*) [ -d "$SITE/${1%%:*}" ] || { echo "no host ${1%%:*}" >&2; return 1; }; echo "$SITE/${1%%:*}/${1#*:/}" ;;
    *) echo "$1" ;;
    esac
}
from=$(place "$1") && to=$(place "$2") || exit 1
[ $# = 2 ] || { echo 'scp: one source, one target' >&2; exit 1; }
case "$recursive" in *r*) exec cp -pr "$from" "$to" ;; *) exec cp -p "$from" "$to" ;; esac
"#,
    ),
    (
        "crictl",
        r#"#!/bin/sh
[ "$*" = ps ] || exit 4
ls "$HOST/run"
"#,
    ),
];

/// One host.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    pub(crate) name: String,
    /// Its files.
    pub(crate) root: PathBuf,
    /// Its address in the pages: the last number of 10.0.0.N.
    number: u8,
    address: String,
}

impl Place {
    /// One of its files, by the path it has in the pages.
    pub(crate) fn path(&self, path: &str) -> PathBuf {
        self.root.join(path.strip_prefix('/').unwrap())
    }

    fn pid(&self) -> Option<Pid> {
        let text = fs::read_to_string(self.root.join("etcd.pid")).ok()?;
        Pid::from_raw(text.trim().parse().ok()?)
    }
}

/// Some hosts and the programs on them.
pub(crate) struct Site {
    scratch: tempfile::TempDir,
    hosts: BTreeMap<String, Place>,
    network: String,
    _reserved: File,
    version: Version,
    /// What etcdctl logs in with, NAME:PASSWORD, where its users would say --user.
    user: Option<String>,
}

/// A network 127.A.B.0 that no other test uses while the file is locked and on which nobody listens.
fn free_network() -> (String, File) {
    let user = fs::metadata("/proc/self").map_or(0, |own| own.uid());
    let dir = env::temp_dir().join(format!("etcd-rescue-test-networks-{user}"));
    fs::create_dir_all(&dir).unwrap();
    let start = std::process::id();
    for step in 0..10_000_u32 {
        let n = start.wrapping_mul(7).wrapping_add(step) % 10_000;
        let (a, b) = (u8::try_from(100 + n / 200).unwrap(), u8::try_from(10 + n % 200).unwrap());
        let lock = File::options().create(true).append(true).open(dir.join(format!("{a}.{b}"))).unwrap();
        let free = (1..=6).all(|host| {
            [2379, 2380].iter().all(|port| TcpListener::bind((Ipv4Addr::new(127, a, b, host), *port)).is_ok())
        });
        if free && lock.try_lock().is_ok() {
            return (format!("127.{a}.{b}."), lock);
        }
    }
    panic!("no free network");
}

impl Site {
    /// Hosts of these names, with the programs of `version` on them; the digit a name ends with is the last of its address.
    pub(crate) fn new(version: Version, names: &[&str]) -> Self {
        // Restores take hundreds of megabytes: not where /tmp may be memory.
        let scratch = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let at = fs::canonicalize(scratch.path()).unwrap();
        let bin = at.join("bin");
        fs::create_dir(&bin).unwrap();
        for (name, text) in SHIMS {
            fs::write(bin.join(name), text).unwrap();
            fs::set_permissions(bin.join(name), Permissions::from_mode(0o755)).unwrap();
        }
        symlink(env!("CARGO_BIN_EXE_etcd-rescue"), bin.join("etcd-rescue")).unwrap();
        let tools = Tools::find(version);
        for (program, name) in [("etcd", "etcd"), ("etcdctl", "real-etcdctl")] {
            let real = fs::canonicalize(tools.command(program).get_program()).unwrap();
            symlink(real, bin.join(name)).unwrap();
        }
        let (network, reserved) = free_network();
        let hosts = names.iter().map(|name| {
            let root = at.join(name);
            for place in
                ["var/lib", "var/backups", "var/tmp", "etc/default", "etc/etcd", "etc/kubernetes", "run"]
            {
                fs::create_dir_all(root.join(place)).unwrap();
            }
            let number = name.trim_start_matches(|c: char| !c.is_ascii_digit()).parse().unwrap();
            let address = format!("{network}{number}");
            ((*name).to_owned(), Place { name: (*name).to_owned(), root, number, address })
        });
        Self { hosts: hosts.collect(), scratch, network, _reserved: reserved, version, user: None }
    }

    /// From now on 127.0.0.1 is an address of its own on each host: for hosts whose other address changes.
    pub(crate) fn with_loopbacks(mut self) -> Self {
        for host in self.hosts.values_mut() {
            host.address = format!("{}{}", self.network, 100 + host.number);
        }
        self
    }

    /// etcdctl logs in as `user`, NAME:PASSWORD, from now on, without --user in each command.
    pub(crate) fn log_in(&mut self, user: &str) {
        self.user = Some(user.to_owned());
    }

    pub(crate) fn host(&self, name: &str) -> &Place {
        self.hosts.get(name).unwrap_or_else(|| panic!("no host {name}"))
    }

    /// `text` as it reads on a host, by the table.
    pub(crate) fn substituted(&self, host: &Place, text: &str) -> String {
        let root = host.root.to_str().unwrap();
        let owner = fs::metadata(&host.root).unwrap();
        let mut out = String::with_capacity(text.len());
        let mut rest = text;
        let mut before = ' ';
        while let Some(next) = rest.chars().next() {
            // A path of this host begins a word or a value; behind a colon it is another's.
            let begins = matches!(before, ' ' | '\n' | '=' | '"' | '\'' | '>' | '|' | '(')
                && !out.ends_with("ETCD_DATA_DIR=");
            let used = if begins && PLACES.iter().any(|place| rest.starts_with(place)) {
                out.push_str(root);
                0
            } else if rest.starts_with("10.0.0.") {
                out.push_str(&self.network);
                "10.0.0.".len()
            } else if rest.starts_with("127.0.0.1") {
                out.push_str(&host.address);
                "127.0.0.1".len()
            } else if rest.starts_with("etcd:etcd") {
                let _ = write!(out, "{}:{}", owner.uid(), owner.gid());
                "etcd:etcd".len()
            } else {
                0
            };
            if used == 0 {
                out.push(next);
                before = next;
                rest = &rest[next.len_utf8()..];
            } else {
                before = '.';
                rest = &rest[used..];
            }
        }
        out
    }

    /// The environment of everything on `host`.
    pub(crate) fn command(&self, host: &Place, program: &str) -> Command {
        let site = host.root.parent().unwrap();
        let mut command = Command::new(program);
        command
            .env_clear()
            .env("PATH", format!("{}:{}", site.join("bin").display(), env::var("PATH").unwrap()));
        command.env("SITE", site).env("HOST", &host.root).env("HOME", &host.root).env("ETCDCTL_API", "3");
        command.env("ADDRESS", &host.address);
        command.envs(self.user.iter().map(|user| ("ETCDCTL_USER", user)));
        command.env("ENDPOINT", format!("http://{}:2379", host.address)).current_dir(&host.root);
        if let Some(mark) = env::var_os("RESCUE_TEST_RUN") {
            command.env("RESCUE_TEST_RUN", mark);
        }
        command
    }

    /// Types `script` on `host`, as it stands in a page.
    pub(crate) fn shell(&self, host: &str, script: &str) -> Run {
        let host = self.host(host);
        let mut command = self.command(host, "sh");
        command.args(["-c", &self.substituted(host, script)]);
        Run::to_end(command)
    }

    /// The settings of member `name` of a cluster of `members`, in its /etc/default/etcd, and more lines of them.
    pub(crate) fn settings(&self, name: &str, members: &[&str], more: &str) {
        let host = self.host(name);
        let cluster: Vec<String> = members
            .iter()
            .map(|member| format!("{member}=http://10.0.0.{}:2380", self.host(member).number))
            .collect();
        let own = format!("10.0.0.{}", host.number);
        let text = format!(
            "ETCD_NAME={name}\nETCD_DATA_DIR=/var/lib/etcd\nETCD_LISTEN_PEER_URLS=http://{own}:2380\n\
             ETCD_INITIAL_ADVERTISE_PEER_URLS=http://{own}:2380\n\
             ETCD_LISTEN_CLIENT_URLS=http://{own}:2379,http://127.0.0.1:2379\n\
             ETCD_ADVERTISE_CLIENT_URLS=http://{own}:2379\nETCD_INITIAL_CLUSTER={}\n\
             ETCD_INITIAL_CLUSTER_TOKEN=prod\nETCD_INITIAL_CLUSTER_STATE=new\n{more}\n",
            cluster.join(",")
        );
        fs::write(host.path("/etc/default/etcd"), self.substituted(host, &text)).unwrap();
    }

    /// A cluster of `members`, running.
    #[track_caller]
    pub(crate) fn start_cluster(&self, members: &[&str], more: &str) {
        for member in members {
            self.settings(member, members, more);
        }
        self.on_each(members, "systemctl start etcd");
    }

    /// Types `script` on several hosts at once; it must succeed.
    #[track_caller]
    pub(crate) fn on_each(&self, hosts: &[&str], script: &str) -> Vec<Run> {
        let runs: Vec<Run> = thread::scope(|scope| {
            let threads: Vec<_> =
                hosts.iter().map(|host| scope.spawn(move || self.shell(host, script))).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        runs.into_iter().map(Run::ok).collect()
    }

    /// Ends etcd on `host` with SIGKILL, as a power cut does.
    pub(crate) fn kill(&self, host: &str) {
        let host = self.host(host);
        let Some(pid) = host.pid() else { return };
        let ours = fs::read(format!("/proc/{}/environ", pid.as_raw_nonzero())).unwrap_or_default();
        let mark = format!("HOST={}", host.root.display());
        if ours.split(|byte| *byte == 0).any(|line| line == mark.as_bytes()) {
            let _ = kill_process(pid, Signal::KILL);
            let deadline = Instant::now() + Duration::from_secs(10);
            while Path::new(&format!("/proc/{}/exe", pid.as_raw_nonzero())).exists()
                && Instant::now() < deadline
            {
                thread::sleep(Duration::from_millis(10));
            }
        }
        let _ = fs::remove_file(host.root.join("etcd.pid"));
    }

    /// Every key of the cluster that `host` is a member of, as etcdctl with these flags shows them.
    #[track_caller]
    pub(crate) fn keys(&self, host: &str, flags: &str) -> Vec<Value> {
        let mut answer = self.shell(host, &format!("etcdctl {flags} get '' --prefix -w json")).json();
        answer["kvs"].as_array_mut().map(std::mem::take).unwrap_or_default()
    }

    /// That the members on these hosts are the cluster, hold the same, and take writes.
    #[track_caller]
    pub(crate) fn assert_lives(&self, hosts: &[&str], flags: &str) {
        let listed = self.shell(hosts[0], &format!("etcdctl {flags} member list -w json")).json();
        let names: BTreeSet<&str> =
            listed["members"].as_array().unwrap().iter().filter_map(|m| m["name"].as_str()).collect();
        assert_eq!(names, hosts.iter().copied().collect());
        let at = self.shell(hosts[0], &format!("etcdctl {flags} put after-the-disaster 1 -w json")).json();
        let revision = at["header"]["revision"].as_i64().unwrap();
        let mut hashes = BTreeSet::new();
        for host in hosts {
            // A read through the leader: the member has applied the put then.
            let read =
                self.shell(host, &format!("etcdctl {flags} get after-the-disaster --print-value-only")).ok();
            assert_eq!(read.stdout.trim_end(), "1");
            let hash =
                self.shell(host, &format!("etcdctl endpoint hashkv --rev {revision} -w json {flags}")).json();
            hashes.insert(hash[0]["HashKV"]["hash"].as_u64().unwrap());
        }
        assert_eq!(hashes.len(), 1, "the members differ: {hashes:?}");
    }

    /// Types all blocks of `page` whose heading `chosen` takes. Every command must succeed; one that holds a text of `findings` must
    /// end with code 3.
    #[track_caller]
    pub(crate) fn follow(&self, page: &str, chosen: impl Fn(&str) -> bool, findings: &[&str]) {
        let page = Page::read(page);
        let mut found = BTreeSet::new();
        let mut ran = 0;
        for block in page.blocks.iter().filter(|block| chosen(&block.heading)) {
            ran += 1;
            self.type_block(&page, block, findings, &mut found);
        }
        assert!(ran > 0, "{}: no such heading", page.name);
        assert_eq!(found.len(), findings.len(), "{}: of {findings:?} only {found:?} were there", page.name);
    }

    #[track_caller]
    fn type_block(&self, page: &Page, block: &Block, findings: &[&str], found: &mut BTreeSet<String>) {
        let mut script = String::new();
        for (line, command) in &block.commands {
            let finding = findings.iter().find(|part| command.contains(**part));
            found.extend(finding.map(|part| (*part).to_owned()));
            let expected = if finding.is_some() { 3 } else { 0 };
            let _ = write!(
                script,
                "{command}\nended=$?; [ $ended = {expected} ] || {{ echo \"{}:{line} ended with $ended\" >&2; exit 9; }}\n",
                page.name
            );
        }
        let started = Instant::now();
        let hosts: Vec<&str> = block.hosts.iter().map(String::as_str).collect();
        let runs = self.on_each(&hosts, &script);
        #[allow(clippy::print_stderr, reason = "the test runner shows it with a failure")]
        for (host, run) in hosts.iter().zip(runs) {
            eprintln!("--- {}:{} on {host}: {:?}", page.name, block.line, started.elapsed());
            eprintln!("{}{}", run.stdout, run.stderr);
        }
    }

    /// The servers' version.
    pub(crate) fn version(&self) -> Version {
        self.version
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        for name in self.hosts.keys() {
            self.kill(name);
        }
        if thread::panicking() {
            for host in self.hosts.values() {
                let log = fs::read_to_string(host.root.join("etcd.log")).unwrap_or_default();
                let lines: Vec<&str> = log.lines().collect();
                #[allow(clippy::print_stderr, reason = "the test runner shows it with the failure")]
                {
                    eprintln!(
                        "--- etcd on {}\n{}",
                        host.name,
                        lines[lines.len().saturating_sub(15)..].join("\n")
                    );
                }
            }
        }
        let _ = self.scratch.path();
    }
}
