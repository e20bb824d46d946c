//! `compare` in words, for a person.

use bbolt::fault::readable;
use snapshot::certainty::{Class, Judged, Parting, Source, Why};
use snapshot::compare::{Comparison, Data, Differing, Held, Tail, Value};
use snapshot::membership::hex_id;
use snapshot::survivors::Survivors;

use crate::next_steps::quoted_path;
use crate::shown::shown;

/// All of it.
pub(super) fn of(survivors: &Survivors, comparison: &Comparison, limit: usize) -> String {
    let mut lines = vec![cluster(survivors), String::new()];
    lines.extend(members(survivors, comparison));
    lines.push(String::new());
    lines.extend(history(survivors));
    lines.extend(tail(&comparison.tail, survivors, limit));
    lines.extend(data(&comparison.data, survivors));
    lines.into_iter().map(|line| line + "\n").collect()
}

fn called(place: usize, survivors: &Survivors) -> String {
    shown(&survivors.name_of(place))
}

fn all_called(places: &[usize], survivors: &Survivors) -> String {
    places.iter().map(|place| called(*place, survivors)).collect::<Vec<_>>().join(", ")
}

fn cluster(survivors: &Survivors) -> String {
    let judgement = &survivors.judgement;
    let id = survivors.all.iter().find_map(|one| one.identity.as_ref()).map(|identity| identity.cluster_id);
    let cluster =
        id.map_or_else(|| "cluster of an unknown id".to_owned(), |id| format!("cluster {}", hex_id(id)));
    if judgement.voters.is_empty() {
        return format!("{cluster}: nothing says who votes in it");
    }
    let voter = |id: &u64| {
        let given =
            survivors.all.iter().find(|one| one.identity.as_ref().is_some_and(|own| own.member_id == *id));
        match given {
            Some(one) if one.called() != hex_id(*id) => format!("{} ({})", shown(&one.called()), hex_id(*id)),
            Some(_) => hex_id(*id),
            None => format!("{} (not given)", known_name(*id, survivors).unwrap_or_else(|| hex_id(*id))),
        }
    };
    let voters: Vec<String> = judgement.voters.iter().map(voter).collect();
    format!("{cluster}, {} voter(s): {}", voters.len(), voters.join(", "))
}

/// The name by which the others know the member `id`, with its id.
fn known_name(id: u64, survivors: &Survivors) -> Option<String> {
    let known = survivors.all.iter().flat_map(|one| one.facts.members());
    let name = known
        .filter(|known| known.id == id)
        .find_map(|known| Some(known.best()?.name).filter(|name| !name.is_empty()))?;
    Some(format!("{} {}", shown(&name), hex_id(id)))
}

/// The members, ranked, in columns.
fn members(survivors: &Survivors, comparison: &Comparison) -> Vec<String> {
    let head = [
        "rank",
        "member",
        "term",
        "last entry",
        "commit",
        "db at entry",
        "revision",
        "compacted",
        "written by",
        "path",
    ];
    let mut rows = vec![head.map(str::to_owned)];
    for standing in &comparison.members {
        let number = |number: Option<u64>| number.map_or_else(|| "-".to_owned(), |number| number.to_string());
        let revision =
            |number: Option<i64>| number.map_or_else(|| "-".to_owned(), |number| number.to_string());
        let path =
            survivors.all.get(standing.survivor).map(|one| shown(&one.given.path.display().to_string()));
        let damaged = if standing.is_damaged { " (damaged)" } else { "" };
        rows.push([
            standing.rank.to_string(),
            called(standing.survivor, survivors),
            standing.term.to_string(),
            format!("{} of term {}", standing.last_index, standing.last_term),
            number(standing.commit),
            number(standing.consistent_index),
            revision(standing.revision),
            revision(standing.compact_revision),
            standing.written_by.map_or_else(|| "-".to_owned(), |version| version.to_string()),
            path.unwrap_or_default() + damaged,
        ]);
    }
    let width = |column: usize| {
        rows.iter()
            .filter_map(|row| row.get(column))
            .map(|cell| cell.chars().count())
            .max()
            .unwrap_or_default()
    };
    let widths: Vec<usize> = (0..head.len()).map(width).collect();
    let line = |row: &[String; 10]| {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    let mut lines: Vec<String> = rows.iter().map(line).collect();
    for aside in &survivors.set_aside {
        let older = shown(&aside.survivor.given.path.display().to_string());
        lines.push(format!("not used: {older}, an earlier copy of {}", called(aside.newer, survivors)));
    }
    lines
}

/// Which entries are what.
fn history(survivors: &Survivors) -> Vec<String> {
    let judgement = &survivors.judgement;
    let mut lines = vec![match judgement.certain_to.index {
        0 => "history: no entry is certain".to_owned(),
        index => format!("history: what entries up to {index} did is certain"),
    }];
    let open = judgement.chain.iter().filter(|judged| judged.class != Class::Certain);
    lines.extend(open.map(|judged| format!("  {}", stretch(judged, survivors))));
    lines.extend(
        judgement.branches.iter().map(|judged| format!("  beside it: {}", stretch(judged, survivors))),
    );
    for conflict in &judgement.conflicts {
        let [one, other] = conflict.sides.each_ref().map(|side| shown(&survivors.called(side)));
        lines.push(format!(
            "  two histories: {one} and {other} part behind entry {}: {}",
            conflict.after,
            parting(conflict.parting)
        ));
    }
    lines
}

fn stretch(judged: &Judged, survivors: &Survivors) -> String {
    let count = (judged.last - judged.first).saturating_add(1);
    let entries = if count == 1 {
        format!("entry {}", judged.first)
    } else {
        format!("entries {} to {}", judged.first, judged.last)
    };
    let holders = shown(&survivors.called(&judged.holders));
    format!(
        "{entries} of term {}: {}, in the log of {holders}: {}",
        judged.term,
        class(judged.class),
        why(judged.why, survivors)
    )
}

const fn class(class: Class) -> &'static str {
    match class {
        Class::Certain => "certain",
        Class::Possible => "possibly committed",
        Class::NotCommitted => "not committed",
    }
}

/// How two histories show.
pub(super) const fn parting(parting: Parting) -> &'static str {
    match parting {
        Parting::SameTerm => "entries of one index and term differ",
        Parting::BothCertain => "each knows another entry to be committed",
        Parting::Forced => "one of them was made a new cluster by force",
    }
}

/// Why entries are what they are said to be.
pub(super) fn why(why: Why, survivors: &Survivors) -> String {
    let who = |at: usize| survivors.witness(at).map_or_else(String::new, |one| shown(&one.called()));
    match why {
        Why::Known(at, Source::Commit) => format!("{} was told so by its leader", who(at)),
        Why::Known(at, Source::ConsistentIndex) => format!("the database of {} has applied it", who(at)),
        Why::Known(at, Source::Snapshot) => format!("a snapshot of {} is of a later entry", who(at)),
        Why::Quorum => "a majority of the voters holds it, and none of them has seen a later term".to_owned(),
        Why::LoneVoter(at) => format!("{} alone votes, and commits what it has", who(at)),
        Why::Undecided => "the files do not decide it".to_owned(),
        Why::Passed => "another entry may stand in its place, for what is certain goes further".to_owned(),
        Why::Conflicts => "another entry is certain in its place".to_owned(),
        Why::Lacked => "a majority of the voters lacks it".to_owned(),
        Why::Superseded => "a later leader did not have it".to_owned(),
    }
}

/// What the entries ask for that are not certain.
fn tail(tail: &Tail, survivors: &Survivors, limit: usize) -> Vec<String> {
    if tail.count == 0 {
        return Vec::new();
    }
    let mut lines = vec!["entries that are not certain:".to_owned()];
    for entry in tail.entries.iter().take(limit) {
        let asked = match (entry.kind, entry.request.as_str()) {
            ("nothing", _) => "nothing: the first of a new leader",
            (kind, "") => kind,
            (_, request) => request,
        };
        let holders = shown(&survivors.called(&entry.holders));
        lines.push(format!(
            "  {} of term {}, {}, in {holders}: {}",
            entry.index,
            entry.term,
            class(entry.class),
            shown(asked)
        ));
    }
    let told = tail.entries.len().min(limit) as u64;
    if tail.count > told {
        lines.push(format!("  and {} more (--limit tells more)", tail.count - told));
    }
    lines
}

fn data(data: &Data, survivors: &Survivors) -> Vec<String> {
    let mut lines = Vec::new();
    let at = data.compared_to.unwrap_or_default();
    match data.groups.as_slice() {
        [] => lines.push("data: no database was compared".to_owned()),
        [one] if one.survivors.len() == 1 => lines.push(format!(
            "data: only that of {} could be hashed: {} at revision {at}",
            all_called(&one.survivors, survivors),
            one.hash.hash
        )),
        [one] => lines.push(format!(
            "data: {} hold the same at revision {at}, the last that all of them have (hash {})",
            all_called(&one.survivors, survivors),
            one.hash.hash
        )),
        groups => {
            lines.push(format!(
                "data: at revision {at}, the last that all of them have, they do not hold the same:"
            ));
            for group in groups {
                lines.push(format!(
                    "  {}: hash {}",
                    all_called(&group.survivors, survivors),
                    group.hash.hash
                ));
            }
        }
    }
    for not in &data.not_compared {
        lines.push(format!("  {}: not compared, {}", called(not.survivor, survivors), shown(&not.why)));
    }
    for part in &data.in_part {
        let found = match &part.first {
            None => "what is left of it there is the same".to_owned(),
            Some(first) => format!("revision {} is not the same", first.revision),
        };
        lines.push(format!(
            "  {} ends at revision {}, which {} has compacted away: {found}",
            called(part.survivor, survivors),
            part.revision,
            called(part.with, survivors)
        ));
        if let Some(first) = &part.first {
            lines.extend(first.keys.iter().flat_map(|key| differing(key, survivors)));
        }
    }
    for pair in &data.shifted {
        let told = [pair.one, pair.other].map(|(place, index, revision)| {
            format!("{} at revision {revision} after entry {index}", called(place, survivors))
        });
        lines.push(format!("  cannot have applied the same entries once each: {}", told.join(", ")));
    }
    if let Some(first) = &data.first {
        let earlier = if first.may_be_earlier { " (or earlier: the rest was compacted)" } else { "" };
        lines.push(format!("first difference, at revision {}{earlier}:", first.revision));
        lines.extend(first.keys.iter().flat_map(|key| differing(key, survivors)));
    }
    let all = data.keys.values.saturating_add(data.keys.rewritten);
    if all > 0 {
        lines.push(format!(
            "keys that differ at revision {at}: {} in their values, {} in the revision of the same value",
            data.keys.values, data.keys.rewritten
        ));
        lines.extend(data.keys.first.iter().flat_map(|key| differing(key, survivors)));
        let told = data.keys.first.len() as u64;
        if all > told {
            lines.push(format!("  and {} more (--limit tells more)", all - told));
        }
    }
    lines
}

fn differing(differing: &Differing, survivors: &Survivors) -> Vec<String> {
    let mut lines = vec![format!("  {}", readable(&differing.key))];
    for (place, held) in &differing.held {
        let has = match held {
            Held::Nothing => "does not have it".to_owned(),
            Held::Deletion => "deletes it".to_owned(),
            Held::Value(value) => in_words(value),
        };
        lines.push(format!("    {}: {has}", called(*place, survivors)));
    }
    lines
}

fn in_words(value: &Value) -> String {
    let lease = if value.lease == 0 { String::new() } else { format!(", lease {:x}", value.lease) };
    format!(
        "revision {}, version {}, {} bytes{lease}: {}",
        value.mod_revision,
        value.version,
        value.len_bytes,
        readable(&value.bytes)
    )
}

/// What to do next.
pub(super) fn next(survivors: &Survivors, comparison: &Comparison) -> Vec<String> {
    if !survivors.judgement.conflicts.is_empty() {
        return vec!["next: decide which history counted, and give 'etcd-rescue recover' the directories of that one alone".to_owned()];
    }
    let mut said = Vec::new();
    let judgement = &survivors.judgement;
    // What only a database holds, its own member's log may lack.
    let is_in_logs = judgement.chain.last().is_some_and(|last| last.last >= judgement.known_to);
    if judgement.is_complete() && is_in_logs && comparison.findings.is_empty() {
        said.push(
            "a majority of the voters is here: started again on their own hosts, they elect a leader and keep all that is certain"
                .to_owned(),
        );
    }
    let paths: Vec<String> = survivors.all.iter().map(|one| quoted_path(&one.given.path)).collect();
    let wal_dirs: String = survivors
        .all
        .iter()
        .filter_map(|one| one.given.wal_dir.as_deref())
        .map(|dir| format!(" --wal-dir {}", quoted_path(dir)))
        .collect();
    let Some(initial) = initial_cluster(survivors) else {
        said.push(
            "next: give these directories to 'etcd-rescue recover', with the members of the new cluster (--initial-cluster NAME=URL,...) and \
             -o OUT: their names or addresses are not known here"
                .to_owned(),
        );
        return said;
    };
    let mut line =
        format!("etcd-rescue recover {}{wal_dirs} --initial-cluster {initial} -o recovered", paths.join(" "));
    if let (false, None, Some(first)) =
        (comparison.data.agrees(), comparison.data.majority(), comparison.members.first())
        && let Some(one) = survivors.all.get(first.survivor)
    {
        line += &format!(" --base {}", quoted_path(&one.given.path));
    }
    said.push(format!("next: '{}' makes a new cluster of them", shown(&line)));
    said
}

/// The voters as `--initial-cluster` names them, by what the members know of each other; `None` where they do not know enough, or where
/// a shell would take something of it for its own.
fn initial_cluster(survivors: &Survivors) -> Option<String> {
    let mut parts = Vec::new();
    for id in &survivors.judgement.voters {
        let known = survivors.all.iter().flat_map(|one| one.facts.members()).filter(|known| known.id == *id);
        let mut best = known.filter_map(|known| known.best());
        let member = best.find(|member| !member.name.is_empty() && !member.peer_urls.is_empty())?;
        parts.extend(member.peer_urls.iter().map(|url| format!("{}={url}", member.name)));
    }
    let text = parts.join(",");
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_.,:/=@%+".contains(c);
    (!text.is_empty() && text.chars().all(is_plain)).then_some(text)
}
