//! The parts of a report that are lists and sentences.

use snapshot::humanize;

use super::data::Data;
use super::lanes::{index_of, snaps_of};
use super::markup::{Column, Html, Page, Text};
use super::words::{counted, grouped, known, len};
use super::{Redact, lanes, page_map, space};
use crate::case::Command;
use crate::custody::SealState;
use crate::source::{KeySpace, Source, SourceFile};

/// The class of good and bad news.
pub(super) fn class(source: &Source) -> &'static str {
    match source.verdict.outlook.as_str() {
        "boots-as-is" => "good",
        "boots-with-loss" => "warn",
        "needs-repair" => "bad",
        _ => "none",
    }
}

/// The verdict in a few words.
pub(super) fn headline(source: &Source) -> &str {
    match source.verdict.outlook.as_str() {
        "boots-as-is" => "boots as it is",
        "boots-with-loss" => "boots with loss",
        "needs-repair" => "needs repair",
        "not-a-member" => "not a member's directory",
        "" => "–",
        other => other,
    }
}

/// What a source is, in words.
fn what(source: &Source) -> String {
    source.what.replace('-', " ")
}

/// The path of a file, as a reader finds it.
pub(super) fn file_name<'a>(file: &'a SourceFile, source: &'a Source) -> &'a str {
    if file.path.is_empty() { &source.path } else { &file.path }
}

/// A word on a coloured ground.
pub(super) fn badge(class: &str, words: &str) -> Html {
    Html::of(format!("<span class=\"badge {class}\">{}</span>", Text(words)))
}

/// The head of the document, with its table of contents.
pub(super) fn header(data: &Data, redact: Option<Redact>, list: &[(String, String)]) -> String {
    let case = &data.case;
    let mut facts = vec![("Case file", Html::code(&case.name)), ("Written by", Html::text(&case.tool))];
    facts.push(("Schema", Html::text(format_args!("version {}", case.schema))));
    let mut examiners: Vec<&str> =
        data.sources.iter().filter_map(|of| of.source.examiner.as_deref()).collect();
    examiners.sort_unstable();
    examiners.dedup();
    if !examiners.is_empty() {
        facts.push(("Examiner", Html::lines(examiners.into_iter().map(Html::text))));
    }
    facts.push((
        "Seal",
        match &case.seal {
            None => Html::text("none"),
            Some(seal) => {
                let state = match seal.state {
                    SealState::Holds => Html::text("– the case is as it was sealed"),
                    SealState::Outgrown => badge("warn", "sources were added since"),
                    SealState::Broken | SealState::Absent => badge("bad", "broken"),
                };
                Html::text("SHA-256 ").and(&Html::code(&seal.sha256)).and(&Html::text(" ")).and(&state)
            }
        },
    ));
    if let Some(redact) = redact {
        facts.push(("Left out", Html::text(redact.in_words())));
    }
    let facts: String =
        facts.iter().map(|(name, text)| format!("<dt>{name}</dt><dd>{text}</dd>\n")).collect();
    let list: String = list
        .iter()
        .enumerate()
        .map(|(index, (id, title))| {
            format!("<li><span class=\"n\">{}</span> <a href=\"#{id}\">{title}</a></li>\n", index + 1)
        })
        .collect();
    format!(
        "<header>\n<p class=\"kind\">Case report</p>\n<h1>{}</h1>\n<dl class=\"facts\">\n{facts}</dl>\n</header>\n\
         <nav aria-label=\"Contents\"><ol>\n{list}</ol></nav>\n",
        Text(&case.name)
    )
}

/// Errors and warnings about a source.
fn found(source: &Source) -> (u64, u64) {
    let errors = source.findings.iter().filter(|finding| finding.severity == "error").count();
    let errors = u64::try_from(errors).unwrap_or(u64::MAX);
    (errors, len(&source.findings) - errors + source.more_findings)
}

/// What it comes to.
pub(super) fn summary(data: &Data, page: &mut Page) {
    page.section("summary", "Summary");
    let sources = || data.sources.iter().map(|of| &of.source);
    let files: u64 = sources().map(|source| len(&source.files)).sum();
    let bytes = sources()
        .flat_map(|source| &source.files)
        .fold(0_u64, |sum, file| sum.saturating_add(file.len_bytes));
    let (errors, warnings) =
        sources().map(found).fold((0, 0), |(errors, warnings), (e, w)| (errors + e, warnings + w));
    let parted =
        data.partings.iter().filter(|pair| pair.diff.part.is_some() || pair.diff.log_part.is_some()).count();
    let tile = |class: &str, number: &str, what: &str| {
        format!("<li class=\"{class}\"><b>{number}</b><span>{what}</span></li>\n")
    };
    let good = |is_bad: bool, class: &'static str| if is_bad { class } else { "good" };
    let mut tiles =
        tile("", &grouped(len(&data.sources)), if data.sources.len() == 1 { "source" } else { "sources" });
    tiles += &tile("", &grouped(files), &format!("files read, {}", humanize::bytes(bytes)));
    tiles += &tile(good(errors > 0, "bad"), &grouped(errors), "errors found");
    tiles += &tile(good(warnings > 0, "warn"), &grouped(warnings), "warnings");
    tiles += &tile(
        good(parted > 0, "bad"),
        &grouped(u64::try_from(parted).unwrap_or(u64::MAX)),
        "pairs of sources with different histories",
    );
    page.push(format_args!("<ul class=\"tiles-of-facts\">\n{tiles}</ul>"));
    if data.sources.is_empty() {
        page.paragraph(&Html::text("Nothing was put into this case yet."));
        return;
    }
    let columns = [
        Column::text("Source"),
        Column::text("What it is"),
        Column::text("Verdict"),
        Column::number("Revision"),
        Column::number("Findings"),
    ];
    let rows: Vec<_> = sources()
        .map(|source| {
            let why = source.verdict.reasons.iter().map(Html::text);
            let verdict = Html::lines(std::iter::once(badge(class(source), headline(source))).chain(why));
            let revision = source.key_space.as_ref().map(|space| space.revision);
            let (errors, warnings) = found(source);
            let mut counts = Vec::new();
            if errors > 0 {
                counts.push(badge("bad", &counted(errors, "error", "errors")));
            }
            if warnings > 0 {
                counts.push(badge("warn", &counted(warnings, "warning", "warnings")));
            }
            if counts.is_empty() {
                counts.push(Html::text("none"));
            }
            vec![
                Html::text(&source.name),
                Html::text(what(source)),
                verdict,
                Html::text(known(revision)),
                Html::lines(counts),
            ]
        })
        .collect();
    page.table(&Html::text("What was examined, and what came of it."), &columns, &rows);
}

/// Files that are told of one by one.
const FILES: usize = 2_000;

/// Every file, with its hash.
pub(super) fn examined(data: &Data, page: &mut Page) {
    page.section("examined", "What was examined");
    page.paragraph(&Html::text(
        "Each file was read from its first byte to its last when its source was added to the case, and was not written to. A file that has \
         this SHA-256 is the file that was examined.",
    ));
    let columns = [Column::text("File"), Column::number("Bytes"), Column::text("SHA-256")];
    for source in data.sources.iter().map(|of| &of.source) {
        page.push(format_args!("<h3>{}</h3>", Text(&source.name)));
        page.paragraph(
            &Html::text(format_args!("{}, added from ", what(source)))
                .and(&Html::code(&source.path))
                .and(&Html::text(".")),
        );
        for (what, text) in [("Added by", &source.examiner), ("Note", &source.note)] {
            if let Some(text) = text {
                page.paragraph(&Html::text(format_args!("{what}: {text}")));
            }
        }
        let rows: Vec<_> = source
            .files
            .iter()
            .take(FILES)
            .map(|file| {
                let mut sums = match &file.unreadable {
                    None => vec![Html::code(&file.sha256)],
                    Some(why) => vec![badge("bad", "cannot be read"), Html::text(why)],
                };
                let mut lengths = vec![Html::text(grouped(file.len_bytes))];
                if let Some((len, sha256)) = &file.unpacked {
                    lengths.push(Html::text(grouped(*len)));
                    sums.push(Html::code(sha256).and(&Html::text(" (unpacked)")));
                }
                vec![Html::code(file_name(file, source)), Html::lines(lengths), Html::lines(sums)]
            })
            .collect();
        page.table(&Html::text(format_args!("The files of {}.", source.name)), &columns, &rows);
        let more = source.files.len().saturating_sub(FILES);
        if more > 0 {
            page.paragraph(&Html::text(format_args!("{more} more files are listed by 'case sources'.")));
        }
    }
}

/// Stretches of revisions that are listed.
const HOLES: usize = 40;

/// What of a key space cannot be read.
fn unreadable(space: &KeySpace) -> Html {
    if space.is_whole() {
        return Html::text("nothing");
    }
    let records = (space.unreadable > 0)
        .then(|| Html::text(counted(space.unreadable, "record", "records")))
        .into_iter();
    let holes = space.holes.iter().take(HOLES).map(|(from, to)| {
        // The first revision behind a hole may be a later operation of the last one in it.
        let to = to.map_or_else(|| "the end".to_owned(), |to| to.saturating_sub(1).max(*from).to_string());
        Html::text(format_args!("revisions {from} to {to}"))
    });
    let more = space.holes.len().saturating_sub(HOLES);
    let more = (more > 0).then(|| Html::text(format_args!("and {more} more stretches")));
    Html::lines(records.chain(holes).chain(more))
}

/// Terms of a log that are listed.
const TERMS: usize = 40;

/// The history over index and revision.
pub(super) fn history(data: &Data, page: &mut Page) {
    page.section("history", "The history");
    lanes::by_index(data, page);
    let columns = [
        Column::text("Source"),
        Column::number("Segments"),
        Column::number("Entries"),
        Column::text("Entries by term"),
        Column::number("Committed up to"),
        Column::number("Database at"),
        Column::text("Snapshot files"),
    ];
    let rows: Vec<_> =
        data.sources
            .iter()
            .map(|of| &of.source)
            .filter(|source| {
                source.log.is_some() || snaps_of(source).next().is_some() || index_of(source).is_some()
            })
            .map(|source| {
                let log = source.log.as_ref();
                let terms = log.filter(|log| !log.terms.is_empty()).map(|log| {
                    let all = log.terms.len();
                    let shown = log.terms.iter().take(TERMS).map(|run| {
                        Html::text(format_args!("term {}: {} to {}", run.term, run.first, run.last))
                    });
                    let more = (all > TERMS).then(|| Html::text(format_args!("and {} more", all - TERMS)));
                    Html::lines(shown.chain(more))
                });
                let all: Vec<_> = snaps_of(source).collect();
                let snaps: Vec<_> = all
                    .chunk_by(|(_, one), (_, next)| one == next)
                    .map(|same| {
                        let indexes: Vec<String> = same.iter().map(|(index, _)| index.to_string()).collect();
                        Html::text(format_args!("term {}: {}", known(same[0].1), indexes.join(", ")))
                    })
                    .collect();
                vec![
                    Html::text(&source.name),
                    Html::text(known(log.map(|log| log.segments.len()))),
                    Html::text(log.map_or_else(|| "–".to_owned(), |log| grouped(log.entries))),
                    terms.unwrap_or_else(|| Html::text("–")),
                    Html::text(known(log.map(|log| log.commit).filter(|commit| *commit > 0))),
                    Html::text(known(index_of(source))),
                    if snaps.is_empty() { Html::text("–") } else { Html::lines(snaps) },
                ]
            })
            .collect();
    if rows.is_empty() {
        page.paragraph(&lanes::nothing());
    }
    page.table(&Html::text("The log of each source, and the snapshot files beside it."), &columns, &rows);
    lanes::by_revision(data, page);
    let columns = [
        Column::text("Source"),
        Column::number("Records"),
        Column::number("Compacted at"),
        Column::number("Last revision"),
        Column::number("Keys in force"),
        Column::number("Deleted keys on record"),
        Column::number("Bytes of values"),
        Column::text("Cannot be read"),
    ];
    let rows: Vec<_> = data
        .sources
        .iter()
        .filter_map(|of| {
            let space = of.source.key_space.as_ref()?;
            Some(vec![
                Html::text(&of.source.name),
                Html::text(grouped(space.records)),
                Html::text(known(space.compacted.filter(|compacted| *compacted > 0))),
                Html::text(space.revision),
                Html::text(grouped(space.live_keys)),
                Html::text(grouped(space.keys.saturating_sub(space.live_keys))),
                Html::text(grouped(space.value_bytes)),
                unreadable(space),
            ])
        })
        .collect();
    page.table(&Html::text("The key space of each source."), &columns, &rows);
}

/// The page map and the treemap of each database.
pub(super) fn databases(data: &Data, page: &mut Page) {
    page.section("databases", "The databases");
    let mut any = false;
    for of in &data.sources {
        let (Some(bytes), Some(pages)) = (of.database_bytes(), &of.source.pages) else { continue };
        any = true;
        page.push(format_args!("<h3>{}</h3>", Text(&of.source.name)));
        let file = of.source.database.and_then(|at| of.source.files.get(at));
        page.paragraph(&Html::code(file.map_or("", |file| file_name(file, &of.source))).and(&Html::text(
            format_args!(
                ", {} ({} bytes) in {} of {} bytes.",
                humanize::bytes(bytes),
                grouped(bytes),
                counted(pages.pages, "page", "pages"),
                pages.page_size
            ),
        )));
        page_map::figure(of, page);
        space::figure(of, page);
    }
    if !any {
        page.paragraph(&Html::text("None of the sources has a database that could be read."));
    }
}

/// How the case came to be, and how to check that it is still the same.
pub(super) fn custody(data: &Data, page: &mut Page) {
    page.section("custody", "Custody");
    match &data.case.seal {
        None => page.paragraph(&Html::text(
            "The case was not sealed. 'etcd-rescue case seal' writes a manifest of all hashes, and the SHA-256 of that manifest.",
        )),
        Some(seal) => {
            page.paragraph(
                &Html::text("The case was sealed. The SHA-256 of the manifest of all hashes is ").and(&Html::code(&seal.sha256)).and(
                    &Html::text(". 'etcd-rescue case verify' reads every source again and holds it against the manifest."),
                ),
            );
            match seal.state {
                SealState::Holds => {}
                SealState::Outgrown => page.paragraph(&Html::text(
                    "What was sealed is what it was; sources were added after it was sealed, and the seal says nothing about those.",
                )),
                SealState::Broken | SealState::Absent => page.paragraph(&badge("bad", "The case is not what was sealed.")),
            }
        }
    }
    if data.case.commands.is_empty() {
        return;
    }
    page.paragraph(&Html::text(
        "These commands made the case. No time is recorded but what an examiner wrote: the clock of a desk proves nothing.",
    ));
    let columns = [Column::text("No."), Column::text("Command"), Column::text("Program")];
    // The same command again stands there once.
    let runs = data.case.commands.chunk_by(|one, next| one == next);
    let rows: Vec<_> = runs
        .scan(0, |before, same: &[Command]| {
            let first = *before + 1;
            *before += same.len();
            let number = if same.len() == 1 { first.to_string() } else { format!("{first} to {before}") };
            Some((number, same.first()?))
        })
        .map(|(number, command)| {
            vec![Html::text(number), Html::code(&command.line), Html::text(&command.tool)]
        })
        .collect();
    page.table(&Html::text("Commands, in their order."), &columns, &rows);
}

/// How to read it, and what it does not say.
pub(super) fn reading(redact: Option<Redact>, page: &mut Page) {
    page.section("reading", "How to read this report");
    for text in [
        "A revision is the number that etcd gives to each change of its key space; an index is the number of an entry in raft's log, by which \
         the members of a cluster agree on changes. A record is one version of one key, or its deletion.",
        "A revision that a compaction has taken away is in no file, and nothing here says anything about it. Two databases are compared only \
         where both have what was written.",
        "A verdict says what the files promise of a start of etcd; it is no test with a server. Hashes prove that files are the same as those \
         that were examined, not who wrote them.",
    ] {
        page.paragraph(&Html::text(text));
    }
    if let Some(redact) = redact {
        page.paragraph(&Html::text(redact.in_words()));
    }
}
