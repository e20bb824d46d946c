//! The sources side by side.

use snapshot::membership::hex_id;

use super::data::Data;
use super::lanes::{index_of, snaps_of};
use super::markup::{Column, Html, Page, cut};
use super::sections::{badge, class, headline};
use super::words::{grouped, known};
use crate::source::{KeySpace, MemberRow, Source, Verdict};

/// Members that are listed, and addresses of each.
const MEMBERS: usize = 200;
const URLS: usize = 16;

/// Sources that stand beside each other on one page.
const BESIDE: usize = 4;

type Fact = (&'static str, fn(&Source) -> Html);

fn none() -> Html {
    Html::text("–")
}

/// What is told of each source, and how.
const FACTS: [Fact; 13] = [
    ("Verdict", |source| badge(class(source), headline(source))),
    ("Member", |source| {
        let name = source.identity.name.iter().map(|name| cut(name));
        let all: Vec<_> = name.chain(source.identity.member.map(|id| Html::code(hex_id(id)))).collect();
        if all.is_empty() { none() } else { Html::lines(all) }
    }),
    ("Cluster", |source| source.identity.cluster.map_or_else(none, |id| Html::code(hex_id(id)))),
    ("Written by etcd", |source| source.identity.written_by.as_ref().map_or_else(none, |by| cut(by))),
    ("Last entry", |source| {
        let last = source.log.as_ref().and_then(|log| log.terms.last());
        last.map_or_else(none, |run| Html::text(format_args!("{} of term {}", run.last, run.term)))
    }),
    ("Known to be committed", |source| {
        Html::text(known(source.log.as_ref().map(|log| log.commit).filter(|commit| *commit > 0)))
    }),
    ("Database at entry", |source| Html::text(known(index_of(source)))),
    ("Newest snapshot file", |source| {
        let newest = snaps_of(source).last();
        newest.map_or_else(none, |(index, term)| Html::text(format_args!("{index} of term {}", known(term))))
    }),
    ("Last revision", |source| Html::text(known(source.key_space.as_ref().map(|space| space.revision)))),
    ("Compacted at", |source| {
        let compacted = source.key_space.as_ref().and_then(|space| space.compacted);
        Html::text(known(compacted.filter(|at| *at > 0)))
    }),
    ("Keys in force", |source| of_space(source, |space| grouped(space.live_keys))),
    ("Records", |source| of_space(source, |space| grouped(space.records))),
    ("Key space read", |source| {
        source.key_space.as_ref().map_or_else(none, |space| {
            if space.is_whole() { badge("good", "whole") } else { badge("bad", "in part") }
        })
    }),
];

fn of_space(source: &Source, of: fn(&KeySpace) -> String) -> Html {
    source.key_space.as_ref().map_or_else(none, |space| Html::text(of(space)))
}

/// The section.
pub(super) fn section(data: &Data, page: &mut Page) {
    page.section("members", "The members side by side");
    let sources: Vec<&Source> = data.sources.iter().map(|of| &of.source).collect();
    let parts = sources.chunks(BESIDE).count();
    for (part, sources) in sources.chunks(BESIDE).enumerate() {
        let mut columns = vec![Column::text("")];
        columns.extend(sources.iter().map(|source| Column::text(&source.name)));
        let rows: Vec<_> = FACTS
            .iter()
            .map(|(name, of)| {
                std::iter::once(Html::text(name)).chain(sources.iter().map(|source| of(source))).collect()
            })
            .collect();
        let which = if parts > 1 { format!(", part {} of {parts}", part + 1) } else { String::new() };
        page.table(&Html::text(format_args!("The sources side by side{which}.")), &columns, &rows);
    }
    next(data, page);
    known_members(data, page);
}

/// What to run next on each source.
fn next(data: &Data, page: &mut Page) {
    let of = |source: &Source| {
        let Verdict { next, purpose, .. } = &source.verdict;
        let command = Html::code(format_args!("etcd-rescue {next}"));
        (!next.is_empty()).then(|| vec![Html::text(&source.name), command, Html::text(purpose)])
    };
    let rows: Vec<_> = data.sources.iter().filter_map(|examined| of(&examined.source)).collect();
    let columns = [Column::text("Source"), Column::text("Command"), Column::text("What for")];
    page.table(&Html::text("What to run next."), &columns, &rows);
}

/// Whom the sources know as members; what several say alike stands there once.
fn known_members(data: &Data, page: &mut Page) {
    let columns = [
        Column::text("Member"),
        Column::text("Name"),
        Column::text("Role"),
        Column::text("Peer URLs"),
        Column::text("By the account of"),
    ];
    let mut said: Vec<(&MemberRow, Vec<&str>)> = Vec::new();
    for source in data.sources.iter().map(|of| &of.source) {
        for member in &source.members {
            match said.iter_mut().find(|(there, _)| alike(there, member)) {
                Some((_, by)) => by.push(&source.name),
                None => said.push((member, vec![&source.name])),
            }
        }
    }
    // What is said of one member stands together.
    said.sort_by_key(|(member, _)| member.id);
    let more = said.len().saturating_sub(MEMBERS);
    let rows: Vec<_> = said
        .iter()
        .take(MEMBERS)
        .map(|(member, by)| {
            let urls = || Html::lines(member.peer_urls.iter().take(URLS).map(|url| cut(url)));
            vec![
                Html::code(hex_id(member.id)),
                if member.name.is_empty() { none() } else { cut(&member.name) },
                Html::text(role(member)),
                if member.peer_urls.is_empty() { none() } else { urls() },
                Html::text(by.join(", ")),
            ]
        })
        .collect();
    let rest = if more > 0 { format!(" {more} more are not shown.") } else { String::new() };
    let caption = format_args!("The members of the cluster, as the sources know them.{rest}");
    page.table(&Html::text(caption), &columns, &rows);
}

/// Whether two sources say the same of a member, as far as it is shown.
fn alike(one: &MemberRow, other: &MemberRow) -> bool {
    one.id == other.id
        && one.name == other.name
        && one.peer_urls == other.peer_urls
        && role(one) == role(other)
}

fn role(member: &MemberRow) -> String {
    let role = if member.is_learner { "learner" } else { "voter" };
    let raft = match member.in_raft {
        Some(false) => ", not in raft's configuration",
        _ => "",
    };
    let row = if member.in_database { "" } else { ", no row in the database" };
    format!("{role}{raft}{row}")
}
