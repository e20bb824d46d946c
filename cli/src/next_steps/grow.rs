//! How a cluster of one gets its other members back: one after the other, each with an empty data dir.

use snapshot::membership::{Member, hex_id};

use super::flags::quoted;
use super::{FILL_IN, Flag, Value, client_urls, in_one_line};
use crate::url::{PeerUrl, to_listen_on};

/// How one member joins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Join {
    /// Its name.
    pub(crate) name: String,
    /// Its peer URLs, comma-separated.
    pub(crate) peer_urls: String,
    /// What tells the running members of it.
    pub(crate) add: Vec<String>,
    /// What then starts it, where it is to run, with an empty data dir.
    pub(crate) start: Vec<String>,
}

/// The member's name; its id where it never told one.
pub(crate) fn name(member: &Member) -> String {
    if member.name.is_empty() { hex_id(member.id) } else { member.name.clone() }
}

/// How each of `others` joins the cluster of `own`, in their order.
pub(crate) fn joins(own: &Member, others: &[Member]) -> Vec<Join> {
    let mut cluster = initial(own);
    let endpoint = own.client_urls.first();
    let joined = others.iter().map(|member| {
        let peer_urls = member.peer_urls.join(",");
        cluster.extend(initial(member));
        let mut add = vec!["etcdctl".to_owned()];
        add.extend(endpoint.map(|url| format!("--endpoints={url}")));
        add.extend(["member", "add"].map(str::to_owned));
        add.push(name(member));
        add.push(format!("--peer-urls={peer_urls}"));
        Join { name: name(member), start: start(member, &cluster), peer_urls, add }
    });
    joined.collect()
}

fn initial(member: &Member) -> Vec<String> {
    member.peer_urls.iter().map(|url| format!("{}={url}", name(member))).collect()
}

fn start(member: &Member, cluster: &[String]) -> Vec<String> {
    let urls: Vec<PeerUrl<'_>> = member.peer_urls.iter().map(|url| PeerUrl::new(url)).collect();
    let tls = urls.iter().any(PeerUrl::is_tls);
    let (mut listen, mut advertise) =
        client_urls(urls.iter().find_map(|url| url.host), super::CLIENT_PORT, tls);
    if !member.client_urls.is_empty() {
        let own: Vec<PeerUrl<'_>> = member.client_urls.iter().map(|url| PeerUrl::new(url)).collect();
        (listen, advertise) = (to_listen_on(&own).join(","), member.client_urls.join(","));
    }
    let flag = |name, text| Flag { name, value: Value::Text(text) };
    let mut flags = vec![
        flag("name", name(member)),
        flag("data-dir", format!("{FILL_IN}/data-dir")),
        flag("initial-advertise-peer-urls", member.peer_urls.join(",")),
        flag("listen-peer-urls", to_listen_on(&urls).join(",")),
        flag("listen-client-urls", listen),
        flag("advertise-client-urls", advertise),
        flag("initial-cluster", cluster.join(",")),
        flag("initial-cluster-state", "existing".to_owned()),
    ];
    if tls {
        flags.extend(super::tls_flags(FILL_IN));
    }
    let words = flags.iter().flat_map(|flag| match &flag.value {
        Value::On => vec![format!("--{}", flag.name)],
        Value::Text(_) | Value::Path(_) => vec![format!("--{}", flag.name), flag.text().into_owned()],
    });
    std::iter::once("etcd".to_owned()).chain(words).collect()
}

/// `joins` for a shell.
pub(crate) fn text(joins: &[Join]) -> String {
    let line = |words: &[String]| words.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(" ");
    let one = |join: &Join| {
        format!("# member {}\n{}\n{}\n", in_one_line(&join.name), line(&join.add), line(&join.start))
    };
    joins.iter().map(one).collect::<Vec<_>>().join("\n")
}
