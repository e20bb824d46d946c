//! What to run after a restore: how each member starts, which directory goes where, and what else to mind.

mod advice;
mod env;
mod flags;
pub(crate) mod grow;
mod quota;
mod static_pod;
mod systemd;

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use clap::ValueEnum;
use snapshot::restore::{RestoreReport, RestoredMember};

pub(crate) use advice::{Situation, advice};
pub(crate) use flags::quoted_path;

use crate::url::{PeerUrl, in_url, is_loopback, to_listen_on};

/// etcd's port for clients.
const CLIENT_PORT: u16 = 2379;
/// Where the TLS files stand in that only the user knows.
const FILL_IN: &str = "/FILL-IN";
/// Where kubeadm keeps etcd's certificates.
const KUBEADM_PKI: &str = "/etc/kubernetes/pki/etcd";

/// In which form the start of a member is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Form {
    /// Commands for a shell.
    Flags,
    /// Environment files.
    Env,
    /// systemd units.
    Systemd,
    /// Static pods, as kubeadm has them.
    StaticPod,
}

/// A flag of etcd.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Flag {
    /// Its name, without dashes.
    pub(crate) name: &'static str,
    /// Its value.
    pub(crate) value: Value,
}

/// The value of a flag.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Value {
    /// A switch that is on.
    On,
    /// Text.
    Text(String),
    /// A path, which need not be text.
    Path(PathBuf),
}

impl Flag {
    /// The value for a form that holds nothing but UTF-8, with a path below [`FILL_IN`] for one that is not.
    fn text(&self) -> Cow<'_, str> {
        match &self.value {
            Value::On => Cow::Borrowed("true"),
            Value::Text(text) => Cow::Borrowed(text),
            Value::Path(path) => {
                path.to_str().map_or_else(|| Cow::Owned(format!("{FILL_IN}/{}", self.name)), Cow::Borrowed)
            }
        }
    }
}

/// How one restored member is started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Start {
    /// The member's name.
    pub(crate) name: String,
    /// The host its first peer URL names; `None` for sockets.
    pub(crate) host: Option<String>,
    /// Its data dir, absolute.
    pub(crate) data_dir: PathBuf,
    /// Its WAL dir, absolute, when it is not in the data dir.
    pub(crate) wal_dir: Option<PathBuf>,
    /// Whether its peers speak TLS.
    pub(crate) tls: bool,
    /// etcd's flags, but those for TLS.
    flags: Vec<Flag>,
}

impl Start {
    /// All flags, with the TLS files below `pki`.
    pub(crate) fn flags(&self, pki: &str) -> Vec<Flag> {
        let mut flags = self.flags.clone();
        if self.tls {
            flags.extend(tls_flags(pki));
        }
        flags
    }

    /// Its directories, by the names of their flags.
    fn dirs(&self) -> impl Iterator<Item = (&'static str, &Path)> {
        let wal_dir = self.wal_dir.as_deref().map(|wal_dir| ("wal-dir", wal_dir));
        std::iter::once(("data-dir", self.data_dir.as_path())).chain(wal_dir)
    }

    /// The command line, with placeholders for TLS files and for paths that are not UTF-8.
    pub(crate) fn argv(&self) -> Vec<String> {
        let flags = self.flags(FILL_IN);
        let argv = flags.into_iter().flat_map(|flag| match flag.value {
            Value::On => vec![format!("--{}", flag.name)],
            Value::Text(_) | Value::Path(_) => vec![format!("--{}", flag.name), flag.text().into_owned()],
        });
        std::iter::once("etcd".to_owned()).chain(argv).collect()
    }

    /// What stands above it in every form.
    fn title(&self) -> String {
        match &self.host {
            Some(host) => format!("# member {} on {}", in_one_line(&self.name), in_one_line(host)),
            None => format!("# member {}", in_one_line(&self.name)),
        }
    }
}

/// The flags for TLS, with the files below `pki`.
fn tls_flags(pki: &str) -> [Flag; 8] {
    let file = |name, file: &str| Flag { name, value: Value::Text(format!("{pki}/{file}")) };
    let on = |name| Flag { name, value: Value::On };
    [
        file("peer-cert-file", "peer.crt"),
        file("peer-key-file", "peer.key"),
        file("peer-trusted-ca-file", "ca.crt"),
        on("peer-client-cert-auth"),
        file("cert-file", "server.crt"),
        file("key-file", "server.key"),
        file("trusted-ca-file", "ca.crt"),
        on("client-cert-auth"),
    ]
}

/// How each member that this run restored is started.
pub(crate) fn starts(report: &RestoreReport) -> Vec<Start> {
    let members = &report.members;
    let cluster: Vec<String> = members
        .iter()
        .flat_map(|member| member.peer_urls.iter().map(move |url| format!("{}={url}", member.name)))
        .collect();
    let cluster = cluster.join(",");
    let quota_bytes = quota::advised_bytes(report);
    let ports = client_ports(members);
    let restored = members.iter().zip(ports).filter_map(|(member, port)| {
        let data_dir = absolute(member.data_dir.as_deref()?);
        let wal_dir = member.wal_dir.as_deref().map(absolute);
        let urls: Vec<PeerUrl<'_>> = member.peer_urls.iter().map(|url| PeerUrl::new(url)).collect();
        let tls = urls.iter().any(PeerUrl::is_tls);
        let host = urls.iter().find_map(|url| url.host);
        let (listen_clients, advertise_clients) = client_urls(host, port, tls);
        let listen_peers = to_listen_on(&urls);

        let mut flags = Vec::new();
        flags.push(Flag { name: "name", value: Value::Text(member.name.clone()) });
        flags.push(Flag { name: "data-dir", value: Value::Path(data_dir.clone()) });
        if let Some(wal_dir) = &wal_dir {
            flags.push(Flag { name: "wal-dir", value: Value::Path(wal_dir.clone()) });
        }
        let mut push = |name, text| flags.push(Flag { name, value: Value::Text(text) });
        push("initial-advertise-peer-urls", member.peer_urls.join(","));
        push("listen-peer-urls", listen_peers.join(","));
        push("listen-client-urls", listen_clients);
        push("advertise-client-urls", advertise_clients);
        push("initial-cluster", cluster.clone());
        push("initial-cluster-token", report.token.clone());
        push("initial-cluster-state", "existing".to_owned());
        if let Some(bytes) = quota_bytes {
            push("quota-backend-bytes", bytes.to_string());
        }
        Some(Start {
            name: member.name.clone(),
            host: host.map(str::to_owned),
            data_dir,
            wal_dir,
            tls,
            flags,
        })
    });
    restored.collect()
}

/// `starts` in `form`; `user` is who owns the files, where that was said.
pub(crate) fn emit(form: Form, starts: &[Start], user: Option<&str>) -> String {
    let pieces: Vec<String> = match form {
        Form::Flags => starts.iter().map(flags::text).collect(),
        Form::Env => starts.iter().map(env::text).collect(),
        Form::Systemd => starts.iter().map(|start| systemd::text(start, user)).collect(),
        Form::StaticPod => starts.iter().map(static_pod::text).collect(),
    };
    pieces.join(if form == Form::StaticPod { "---\n" } else { "\n" })
}

/// The URLs to listen on for clients, and to advertise to them.
fn client_urls(host: Option<&str>, port: u16, tls: bool) -> (String, String) {
    let scheme = if tls { "https" } else { "http" };
    let host = host.unwrap_or("127.0.0.1");
    let advertised = format!("{scheme}://{}:{port}", in_url(host));
    let here = format!("{scheme}://127.0.0.1:{port}");
    let mut urls = vec![PeerUrl::new(&advertised)];
    if !is_loopback(host) {
        urls.push(PeerUrl::new(&here));
    }
    (to_listen_on(&urls).join(","), advertised)
}

/// A port for the clients of each member: 2379, but on a host with several members the port below each one's peer port, and
/// never one that is taken there.
fn client_ports(members: &[RestoredMember]) -> Vec<u16> {
    // All names of the host itself are one host.
    let key = |host: &str| if is_loopback(host) { "localhost".to_owned() } else { host.to_owned() };
    let urls = |member: &RestoredMember| -> Vec<(Option<String>, Option<u16>)> {
        let parts = member.peer_urls.iter().map(|url| PeerUrl::new(url));
        parts.map(|url| (url.host.map(key), url.port)).collect()
    };
    let host_of = |member: &RestoredMember| urls(member).into_iter().find_map(|(host, _)| host);
    let mut taken: BTreeSet<(Option<String>, u16)> =
        members.iter().flat_map(urls).filter_map(|(host, port)| port.map(|port| (host, port))).collect();
    let mut ports = Vec::with_capacity(members.len());
    for member in members {
        let host = host_of(member);
        let alone = members.iter().filter(|other| host_of(other) == host).count() == 1;
        let peer_port = urls(member).into_iter().find_map(|(_, port)| port);
        let wanted = match peer_port {
            Some(peer_port) if !alone => peer_port.saturating_sub(1),
            _ => CLIENT_PORT,
        };
        // Its own peer ports are taken whatever the host, for one it cannot bind makes it listen on all addresses.
        let own: Vec<u16> = urls(member).into_iter().filter_map(|(_, port)| port).collect();
        // Steps of a hundred, so that neighbouring peer ports do not push each other on.
        let free = (0..=u16::MAX)
            .map(|step| wanted.wrapping_add(step.wrapping_mul(100)))
            .find(|port| *port != 0 && !own.contains(port) && !taken.contains(&(host.clone(), *port)))
            .unwrap_or(CLIENT_PORT);
        taken.insert((host, free));
        ports.push(free);
    }
    ports
}

/// `text` without anything that ends or continues a line, in any form.
fn in_one_line(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if c == '\\' || breaks_lines(c) {
            out.extend(c.escape_default());
        } else {
            out.push(c);
        }
    }
    out
}

/// True for control characters, and for those that YAML takes for line breaks too.
fn breaks_lines(c: char) -> bool {
    c.is_control() || matches!(c, '\u{2028}' | '\u{2029}')
}

fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

#[cfg(test)]
mod tests;
