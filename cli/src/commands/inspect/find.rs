//! `inspect --find`: what was configured on a dead disk, and how the data stands that it names.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use snapshot::facts::What;
use snapshot::find::{self, Directory, FindError, Found, Kind, Place, Source};
use snapshot::inspect::{self, InspectOptions, Inspection};

use super::named;
use super::verdict;
use crate::context::Context;
use crate::exit::{self, Failure};
use crate::outcome::Outcome;
use crate::output::{self, Format};
use crate::shown::shown;

/// Flags in the order in which they are shown.
const SHOWN: [&str; 8] = [
    "name",
    "initial-cluster",
    "initial-cluster-token",
    "initial-cluster-state",
    "initial-advertise-peer-urls",
    "advertise-client-urls",
    "force-new-cluster",
    "enable-v2",
];

/// Looks below `root`.
///
/// # Errors
/// When it is no directory, or the user asked to stop.
pub(super) fn run(root: &Path, options: &InspectOptions, context: &Context) -> Result<Outcome, Failure> {
    let found = find::find(root, context.watch.as_ref())
        .map_err(|error: FindError| Failure::failed(error.to_string()))?;
    let mut outcome = Outcome::default();
    let mut inspected = Vec::new();
    for place in &found.places {
        inspected.push(inspection(place, options, context)?);
    }
    let any = found.places.iter().any(|place| place.data_dir.there().is_some());
    let wrong = inspected.iter().flatten().any(super::is_found);
    outcome.code = if !any || wrong { exit::FINDINGS } else { exit::DONE };
    let pairs = || found.places.iter().zip(&inspected);
    outcome.result = if context.format == Format::Json {
        let lines = pairs().map(|(place, inspection)| output::json(&to_json(place, inspection.as_ref())));
        lines.collect::<Result<String, Failure>>()?
    } else {
        let mut text = heading(&found);
        for (place, inspection) in pairs() {
            text += &in_words(place, inspection.as_ref());
        }
        text + &passed_over(&found)
    };
    Ok(outcome)
}

/// The page of the data dir, where it is there and whole within the mount.
fn inspection(
    place: &Place,
    options: &InspectOptions,
    context: &Context,
) -> Result<Option<Inspection>, Failure> {
    let Some(dir) = place.data_dir.there().filter(|_| place.links.is_empty()) else { return Ok(None) };
    let mut options = options.clone();
    let wal_dir = place.wal_dir.as_ref();
    // The flag of the command line is that of this machine, and counts more.
    if options.facts.log.wal_dir.is_none() {
        options.facts.log.wal_dir = wal_dir.and_then(Directory::there).map(Path::to_owned);
    }
    match inspect::inspect(dir, &options, context.watch.as_ref()) {
        Ok(inspection) => Ok(Some(inspection)),
        Err(error @ snapshot::facts::FactsError::Interrupted) => Err(Failure::failed(error.to_string())),
        Err(_) => Ok(None),
    }
}

fn heading(found: &Found) -> String {
    let there = found.places.iter().filter(|place| place.data_dir.there().is_some()).count();
    let mut text = match (found.places.len(), there) {
        (0, _) => format!(
            "{}: no etcd was configured in any of the places looked at, and no data dir lies where one often does\n",
            named(&found.root)
        ),
        (all, there) => format!(
            "{}: {all} data dir(s) of etcd are named or found there, {there} of them on this disk\n",
            named(&found.root)
        ),
    };
    if there == 0 {
        for (at, (places, what)) in find::PLACES.iter().enumerate() {
            text += &line(if at == 0 { "looked at" } else { "" }, &format!("{places}: {what}"));
        }
        text += &line("next", "'etcd-rescue inspect PATH' says of any other directory what it is");
    }
    text
}

fn line(name: &str, text: &str) -> String {
    format!("  {name:13}  {}\n", shown(text))
}

fn in_words(place: &Place, inspection: Option<&Inspection>) -> String {
    let dir = &place.data_dir;
    let mut text = match dir.there() {
        Some(real) => format!("\n{}: on this disk, at {}\n", named(&dir.named), named(real)),
        None => format!("\n{}: not on this disk ({})\n", named(&dir.named), why_not(dir)),
    };
    for (at, source) in place.sources.iter().enumerate() {
        text += &line(if at == 0 { "named by" } else { "" }, &source_in_words(source));
        for note in &source.notes {
            text += &line("", note);
        }
    }
    if let Some(wal) = &place.wal_dir {
        let there = match wal.there() {
            Some(real) => format!("at {}", real.display()),
            None => format!("not on this disk: {}", why_not(wal)),
        };
        text += &line("log", &format!("in {}, {there}", wal.named.display()));
    }
    for flag in SHOWN {
        if let Some(value) = place.setting(flag) {
            text += &line(if flag == "name" { "flags" } else { "" }, &format!("--{flag}={value}"));
        }
    }
    for link in &place.links {
        text += &line("a link", link);
    }
    if !place.links.is_empty() {
        text += &line(
            "",
            "it is not opened, since the link would be followed on this machine: copy what it leads to into place",
        );
    }
    if let Some(inspection) = inspection {
        text += &headline(inspection);
    }
    text
}

fn why_not(dir: &Directory) -> String {
    dir.resolved.as_ref().err().map(ToString::to_string).unwrap_or_default()
}

fn source_in_words(source: &Source) -> String {
    let kind = match source.kind {
        Kind::SystemdUnit => "a unit of systemd",
        Kind::EnvironmentFile => "an environment file",
        Kind::ConfigFile => "a file for --config-file",
        Kind::StaticPod => "a static pod",
        Kind::Container => "a container of docker",
        Kind::Rancher => "RKE2 or k3s",
        Kind::DefaultDirectory => return "nothing: it lies where a data dir often does".to_owned(),
    };
    format!("{} ({kind})", source.path.display())
}

/// What its page says in a few lines.
fn headline(inspection: &Inspection) -> String {
    let facts = &inspection.facts;
    if facts.looked.what == What::Other {
        return line("holds", facts.looked.seems.as_deref().unwrap_or("nothing of etcd's"));
    }
    let mut parts = Vec::new();
    if let Some(database) = facts.database_facts() {
        if let Some((version, _)) = database.schema.written_by() {
            parts.push(format!("etcd {version}"));
        }
        parts.push(format!("revision {}", database.revision()));
    }
    if let Some(waiting) = facts.not_in_database() {
        parts.push(format!("{waiting} entries of the log not in the db"));
    }
    let mut text = if parts.is_empty() { String::new() } else { line("holds", &parts.join(", ")) };
    let verdict = verdict::of(inspection);
    for (at, sentence) in verdict.sentences.iter().enumerate() {
        text += &line(if at == 0 { "verdict" } else { "" }, sentence);
    }
    let path = verdict::quoted(&facts.path);
    let wal_dir = match (&facts.looked.wal_dir, &facts.looked.member_dir) {
        (Some(wal), Some(member)) if *wal != member.join("wal") => {
            format!(" --wal-dir {}", verdict::quoted(wal))
        }
        _ => String::new(),
    };
    text + &line("next", &format!("etcd-rescue inspect {path}{wal_dir}"))
}

fn passed_over(found: &Found) -> String {
    let mut text = String::new();
    for (at, (path, why)) in found.passed_over.iter().enumerate() {
        if at == 0 {
            text += "\npassed over\n";
        }
        text += &line("", &format!("{}: {why}", path.display()));
    }
    text
}

fn to_json(place: &Place, inspection: Option<&Inspection>) -> Value {
    let directory = |dir: &Directory| {
        json!({
            "named": dir.named.display().to_string(),
            "path": dir.there().map(|real| real.display().to_string()),
            "exists": dir.there().is_some(),
        })
    };
    let path = |path: &PathBuf| path.display().to_string();
    json!({
        "dataDir": directory(&place.data_dir),
        "walDir": place.wal_dir.as_ref().map(directory),
        "sources": place.sources.iter().map(|source| json!({
            "path": path(&source.path),
            "kind": source.kind,
            "flags": source.settings.iter().collect::<std::collections::BTreeMap<_, _>>(),
            "notes": source.notes,
        })).collect::<Vec<_>>(),
        "links": place.links,
        "inspection": inspection.map(super::json::of),
    })
}
