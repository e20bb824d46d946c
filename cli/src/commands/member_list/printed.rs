//! The members as `etcdctl member list` prints them, to the byte as the etcdctl of a release: what differs between releases is the
//! box, what `--hex` does, and whether a revision that is none is a field.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use bbolt::{gojson, goquote};
use snapshot::log_tail::Identity;
use snapshot::membership::{Member, hex_id};

use crate::etcdctl_output::{push_message, push_name, push_number, push_varint_field};
use crate::output::{self, Cell};
use crate::shown::shown;

/// An answer to `member list`.
pub(super) struct Answer<'a> {
    /// Who answers.
    pub(super) identity: Identity,
    /// The members.
    pub(super) members: &'a BTreeMap<u64, Member>,
    /// The minor version of the etcdctl that prints it.
    pub(super) minor: u32,
    /// `--hex`.
    pub(super) hex: bool,
}

impl Answer<'_> {
    fn rows(&self) -> Vec<Vec<Cell>> {
        let row = |member: &Member| {
            let status = if member.name.is_empty() { "unstarted" } else { "started" };
            let urls = |urls: &[String]| shown(&urls.join(","));
            vec![
                Cell::new("ID", "ID", &hex_id(member.id)),
                Cell::new("Status", "Status", status),
                Cell::new("Name", "Name", &shown(&member.name)),
                Cell::new("Peer Addrs", "PeerAddrs", &urls(&member.peer_urls)),
                Cell::new("Client Addrs", "ClientAddrs", &urls(&member.client_urls)),
                Cell::new("Is Learner", "IsLearner", &member.is_learner),
            ]
        };
        self.members.values().map(row).collect()
    }

    /// A line for each.
    pub(super) fn simple(&self) -> String {
        output::simple(&self.rows())
    }

    /// A box.
    pub(super) fn table(&self) -> String {
        if self.minor >= 7 { output::table(&self.rows()) } else { output::older_table(&self.rows()) }
    }

    /// A line for each field.
    pub(super) fn fields(&self) -> String {
        let Identity { cluster_id, member_id, raft_term } = self.identity;
        let hex = self.hex && self.minor >= 6;
        let id = |id: u64| if hex { hex_id(id) } else { id.to_string() };
        let revision = if self.minor >= 6 { "" } else { "\"Revision\" : 0\n" };
        let mut out = format!(
            "\"ClusterID\" : {}\n\"MemberID\" : {}\n{revision}\"RaftTerm\" : {raft_term}\n",
            id(cluster_id),
            id(member_id)
        );
        for member in self.members.values() {
            let named = [("Name", &member.name)].into_iter();
            let peers = member.peer_urls.iter().map(|url| ("PeerURL", url));
            let clients = member.client_urls.iter().map(|url| ("ClientURL", url));
            let _ = writeln!(out, "\"ID\" : {}", id(member.id));
            for (label, text) in named.chain(peers).chain(clients) {
                let mut quoted = Vec::new();
                goquote::quote(text.as_bytes(), &mut quoted);
                let _ = writeln!(out, "\"{label}\" : {}", String::from_utf8_lossy(&quoted));
            }
            let _ = writeln!(out, "\"IsLearner\" : {}\n", member.is_learner);
        }
        out
    }

    /// One object on one line.
    pub(super) fn json(&self) -> String {
        let out = if !self.hex || self.minor <= 4 {
            self.plain_json()
        } else if self.minor <= 6 {
            self.older_hex_json()
        } else {
            self.hex_json()
        };
        String::from_utf8_lossy(&out).into_owned() + "\n"
    }

    fn plain_json(&self) -> Vec<u8> {
        let Identity { cluster_id, member_id, raft_term } = self.identity;
        let mut out = b"{\"header\":{".to_vec();
        push_number("cluster_id", cluster_id, &mut out);
        push_number("member_id", member_id, &mut out);
        push_number("raft_term", raft_term, &mut out);
        out.push(b'}');
        self.push_members(&mut out, |member, out| push_number("ID", member.id, out));
        out.push(b'}');
        out
    }

    /// As 3.7 prints it: ids as strings.
    fn hex_json(&self) -> Vec<u8> {
        let Identity { cluster_id, member_id, raft_term } = self.identity;
        let mut out = b"{\"header\":{".to_vec();
        push_id("cluster_id", cluster_id, &mut out);
        push_id("member_id", member_id, &mut out);
        push_number("raft_term", raft_term, &mut out);
        out.push(b'}');
        self.push_members(&mut out, |member, out| push_id("ID", member.id, out));
        out.push(b'}');
        out
    }

    fn push_members(&self, out: &mut Vec<u8>, push_own_id: impl Fn(&Member, &mut Vec<u8>)) {
        for (at, member) in self.members.values().enumerate() {
            out.extend_from_slice(if at == 0 { b",\"members\":[{" } else { b",{" });
            push_own_id(member, out);
            if !member.name.is_empty() {
                push_name("name", out);
                gojson::push_string(out, member.name.as_bytes());
            }
            for (name, urls) in [("peerURLs", &member.peer_urls), ("clientURLs", &member.client_urls)] {
                if !urls.is_empty() {
                    push_name(name, out);
                    gojson::push_strings(out, urls);
                }
            }
            if member.is_learner {
                push_name("isLearner", out);
                out.extend_from_slice(b"true");
            }
            out.push(b'}');
        }
        if !self.members.is_empty() {
            out.push(b']');
        }
    }

    /// As 3.5 and 3.6 print it: nothing is left out but who learns, and `clientURLS` is its name. They write a name as it is,
    /// here it is escaped where it must be.
    fn older_hex_json(&self) -> Vec<u8> {
        let Identity { cluster_id, member_id, raft_term } = self.identity;
        let mut out = format!(
            "{{\"header\":{{\"cluster_id\":\"{cluster_id:x}\",\"member_id\":\"{member_id:x}\",\"raft_term\":{raft_term}}}"
        )
        .into_bytes();
        for (at, member) in self.members.values().enumerate() {
            out.extend_from_slice(if at == 0 { b",\"members\":[{" } else { b",{" });
            push_id("ID", member.id, &mut out);
            push_name("name", &mut out);
            gojson::push_string(&mut out, member.name.as_bytes());
            for (name, urls) in [("peerURLs", &member.peer_urls), ("clientURLS", &member.client_urls)] {
                push_name(name, &mut out);
                if urls.is_empty() {
                    out.extend_from_slice(b"null");
                } else {
                    gojson::push_strings(&mut out, urls);
                }
            }
            out.push(b'}');
        }
        if !self.members.is_empty() {
            out.push(b']');
        }
        out.push(b'}');
        out
    }

    /// One message, `etcdserverpb.MemberListResponse`.
    pub(super) fn protobuf(&self) -> Vec<u8> {
        let Identity { cluster_id, member_id, raft_term } = self.identity;
        let (mut out, mut header) = (Vec::new(), Vec::new());
        push_varint_field(1, cluster_id, &mut header);
        push_varint_field(2, member_id, &mut header);
        push_varint_field(4, raft_term, &mut header);
        push_message(1, &header, &mut out);
        for member in self.members.values() {
            let mut message = Vec::new();
            push_varint_field(1, member.id, &mut message);
            if !member.name.is_empty() {
                push_message(2, member.name.as_bytes(), &mut message);
            }
            for (field, urls) in [(3, &member.peer_urls), (4, &member.client_urls)] {
                for url in urls {
                    push_message(field, url.as_bytes(), &mut message);
                }
            }
            push_varint_field(5, u64::from(member.is_learner), &mut message);
            push_message(2, &message, &mut out);
        }
        out
    }
}

fn push_id(name: &str, id: u64, out: &mut Vec<u8>) {
    push_name(name, out);
    out.extend_from_slice(format!("\"{id:x}\"").as_bytes());
}
