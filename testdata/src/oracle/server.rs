//! One real etcd process.

use std::fs::{self, File, Permissions};
use std::net::TcpStream;
use std::ops::Deref;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::client::{Client, Status};
use super::ports::free_ports;
use super::tools::{Run, Tools, Version};

/// How long a server may take until it sees a leader, and how long to end after SIGTERM.
const START_LIMIT: Duration = Duration::from_secs(40);
const STOP_LIMIT: Duration = Duration::from_secs(20);

/// Elections within a moment, in place of seconds; a flag given later counts.
const QUICK_ELECTIONS: [&str; 4] = ["--heartbeat-interval", "20", "--election-timeout", "200"];
/// How long to wait between two looks at a server that starts.
const LOOK: Duration = Duration::from_millis(20);

/// What to start: a version, a scratch data dir, a name, and what else the command line needs.
#[derive(Clone, Debug)]
pub struct Launch {
    tools: Tools,
    data_dir: PathBuf,
    name: String,
    peer_url: String,
    client_url: String,
    user: Option<String>,
    args: Vec<String>,
}

impl Launch {
    /// Member `name` of `data_dir`, which the server will write to: pass a scratch copy. Client and peer
    /// listeners get free ports of 127.0.0.1.
    pub fn new(version: Version, data_dir: &Path, name: &str) -> Self {
        let ports = free_ports(2);
        Self {
            tools: Tools::find(version),
            data_dir: data_dir.to_owned(),
            name: name.to_owned(),
            client_url: format!("http://127.0.0.1:{}", ports[0]),
            peer_url: format!("http://127.0.0.1:{}", ports[1]),
            user: None,
            args: Vec::new(),
        }
    }

    /// The same member, with the same URLs, of another data dir: after the server of the first has ended.
    #[must_use]
    pub fn data_dir(mut self, data_dir: &Path) -> Self {
        data_dir.clone_into(&mut self.data_dir);
        self
    }

    /// Where peers will reach it.
    #[must_use]
    pub fn peer(&self) -> &str {
        &self.peer_url
    }

    /// Listens for peers at `url`: needed when other members know this one by that URL.
    #[must_use]
    pub fn peer_url(mut self, url: impl Into<String>) -> Self {
        self.peer_url = url.into();
        self
    }

    /// `NAME:PASSWORD` for every etcdctl call, needed from the start where auth is on.
    #[must_use]
    pub fn user(mut self, user: &str) -> Self {
        self.user = Some(user.to_owned());
        self
    }

    /// More flags of etcd.
    #[must_use]
    pub fn args<S: Into<String>>(mut self, args: impl IntoIterator<Item = S>) -> Self {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }

    /// Starts the process and does not wait: a member that needs its peers for a quorum is ready only after
    /// they were started too.
    pub fn spawn(self) -> Server {
        let log = tempfile::NamedTempFile::with_prefix("etcd-log-").expect("a temporary file");
        let client = Client::new(self.tools.clone(), self.client_url.clone(), self.user.clone());
        let child = self.process(log.as_file());
        Server { child: Some(child), log, client, launch: self }
    }

    /// Starts the process and waits until it sees a leader.
    #[track_caller]
    pub fn start(self) -> Server {
        let mut server = self.spawn();
        server.wait_ready();
        server
    }

    fn process(&self, log: &File) -> Child {
        if self.data_dir.exists() {
            // etcd refuses or complains about a data dir that others may enter.
            fs::set_permissions(&self.data_dir, Permissions::from_mode(0o700))
                .unwrap_or_else(|e| panic!("{}: {e}", self.data_dir.display()));
        }
        let mut command = self.tools.command("etcd");
        command
            .args(["--name", &self.name, "--data-dir"])
            .arg(&self.data_dir)
            .args(["--listen-client-urls", &self.client_url, "--advertise-client-urls", &self.client_url])
            .args(["--listen-peer-urls", &self.peer_url])
            .args(QUICK_ELECTIONS)
            .args(&self.args)
            .stdout(log.try_clone().expect("a log file"))
            .stderr(log.try_clone().expect("a log file"));
        command.stdin(Stdio::null()).spawn().unwrap_or_else(|e| panic!("{command:?}: {e}"))
    }
}

/// A real etcd server; what [`Client`] can do, it can do. It is killed when dropped, and its log is shown when
/// the test is failing then.
#[derive(Debug)]
pub struct Server {
    launch: Launch,
    client: Client,
    child: Option<Child>,
    log: tempfile::NamedTempFile,
}

impl Deref for Server {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.client
    }
}

impl Server {
    /// Starts `version` on `data_dir` and waits until it sees a leader; [`Launch`] has more to choose.
    #[track_caller]
    pub fn start(version: Version, data_dir: &Path, name: &str, extra_args: &[&str]) -> Self {
        Launch::new(version, data_dir, name).args(extra_args.iter().copied()).start()
    }

    /// What it was started as.
    pub fn launch(&self) -> &Launch {
        &self.launch
    }

    /// Where clients reach it.
    pub fn client_url(&self) -> &str {
        &self.launch.client_url
    }

    /// Where peers reach it.
    pub fn peer_url(&self) -> &str {
        &self.launch.peer_url
    }

    /// The name it was started with.
    pub fn name(&self) -> &str {
        &self.launch.name
    }

    /// Its data dir.
    pub fn data_dir(&self) -> &Path {
        &self.launch.data_dir
    }

    /// The tools of its version.
    pub fn tools(&self) -> &Tools {
        &self.launch.tools
    }

    /// Runs etcdutl of the same version.
    pub fn etcdutl(&self, args: &[&str]) -> Run {
        self.launch.tools.etcdutl(args)
    }

    /// Everything it has logged since it was first started.
    pub fn log(&self) -> String {
        let bytes = fs::read(self.log.path()).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Waits until the server answers and names a leader. Panics when it ends or takes too long.
    #[track_caller]
    pub fn wait_ready(&mut self) -> Status {
        let deadline = Instant::now() + START_LIMIT;
        loop {
            if let Some(status) = self.exited() {
                panic!("etcd {} ended with {status} instead of starting", self.launch.name);
            }
            // etcdctl that finds nobody there waits for a second before it tries again.
            let why = match self.is_listening().then(|| self.client.try_status()) {
                Some(Ok(status)) if status.leader != 0 => return status,
                Some(Ok(_)) => "it sees no leader".to_owned(),
                Some(Err(why)) => why,
                None => "nobody listens for clients".to_owned(),
            };
            assert!(
                Instant::now() < deadline,
                "etcd {} is not ready after {START_LIMIT:?}: {why}",
                self.launch.name
            );
            thread::sleep(LOOK);
        }
    }

    /// Whether somebody listens where clients are to reach it.
    fn is_listening(&self) -> bool {
        let address = self.launch.client_url.trim_start_matches("http://");
        TcpStream::connect(address).is_ok()
    }

    /// How the process ended, if it has; also after it ended by itself.
    pub fn exited(&mut self) -> Option<ExitStatus> {
        self.child.as_mut().and_then(|child| child.try_wait().expect("a child of ours"))
    }

    /// Waits up to `limit` for a server that is expected to end by itself (one that panics over its data).
    pub fn wait_exit(&mut self, limit: Duration) -> Option<ExitStatus> {
        let deadline = Instant::now() + limit;
        loop {
            let status = self.exited();
            if status.is_some() || Instant::now() >= deadline {
                return status;
            }
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Ends the server with SIGTERM, and with SIGKILL when that takes too long.
    pub fn stop(&mut self) {
        if let Some(child) = &self.child {
            // A process that has ended but was not waited for still takes signals, so the pid is ours.
            let _ = kill_process(Pid::from_child(child), Signal::TERM);
            if self.wait_exit(STOP_LIMIT).is_none() {
                self.kill();
            }
            self.child = None;
        }
    }

    /// Ends the server with SIGKILL.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Halts the process with SIGSTOP: to its peers and clients it is there and does not answer, like a member behind a network
    /// that was cut.
    pub fn freeze(&self) {
        self.signal(Signal::STOP);
    }

    /// Lets a frozen process go on.
    pub fn thaw(&self) {
        self.signal(Signal::CONT);
    }

    fn signal(&self, signal: Signal) {
        if let Some(child) = &self.child {
            // As in `stop`, the pid is ours until it was waited for.
            let _ = kill_process(Pid::from_child(child), signal);
        }
    }

    /// Gives the next start of this server other flags than those it was launched with.
    pub fn set_args<S: Into<String>>(&mut self, args: impl IntoIterator<Item = S>) {
        self.launch.args = args.into_iter().map(Into::into).collect();
    }

    /// Starts the same command line again after [`Server::stop`] or [`Server::kill`], without waiting.
    pub fn spawn_again(&mut self) {
        self.stop();
        self.child = Some(self.launch.process(self.log.as_file()));
    }

    /// Stops the server, starts it again and waits until it sees a leader.
    #[track_caller]
    pub fn restart(&mut self) {
        self.spawn_again();
        self.wait_ready();
    }
}

/// Lines of log shown for each server of a failing test.
const SHOWN: usize = 60;

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
        if thread::panicking() {
            let log = self.log();
            let lines: Vec<_> = log.lines().collect();
            let from = lines.len().saturating_sub(SHOWN);
            #[allow(clippy::print_stderr, reason = "the test runner shows it with the failure")]
            {
                eprintln!("--- last lines of etcd {} ({})", self.launch.name, self.launch.data_dir.display());
                for line in &lines[from..] {
                    eprintln!("{line}");
                }
            }
        }
    }
}
