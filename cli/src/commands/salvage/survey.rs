//! What was found: inputs, pages, metas, trees, logs; and the ways out of it.

use snapshot::humanize;
use snapshot::salvage::Report;
use snapshot::salvage::report::{
    Histogram, InputKind, InputReport, LogReport, MetaReport, Origin, TreeReport, WayReport,
};

use super::words::{bytes, counted, grouped, listed, named};
use crate::commands::kv_usage::columns;
use crate::page::Page;
use crate::shown::shown;

/// Most inputs, trees, ranges that get a line each.
const MOST_LINES: usize = 8;

/// The survey and the ways.
pub(super) fn of(report: &Report) -> String {
    let mut page = Page::default();
    page.title("Survey");
    for input in report.inputs.iter().take(MOST_LINES) {
        of_input(&mut page, input);
    }
    if report.inputs.len() > MOST_LINES {
        page.line("inputs", &format!("and {} more", grouped(report.inputs.len() - MOST_LINES)));
    }
    for log in &report.logs {
        of_log(&mut page, log);
    }
    let mut name = "trees";
    for (at, tree) in report.trees.iter().enumerate().take(MOST_LINES) {
        page.line(name, &of_tree(report, at, tree));
        name = "";
    }
    if report.trees.len() > MOST_LINES {
        page.more(&format!(
            "and {} older ones (--report has them)",
            grouped(report.trees.len() - MOST_LINES)
        ));
    }
    if report.trees.is_empty() {
        page.line("trees", "none can be followed: there is no root left");
    }
    let known = &report.known;
    let copied = match known.copied_revisions {
        0 => String::new(),
        copied => format!("; more than one copy of {}", grouped(copied)),
    };
    page.line(
        "known",
        &format!(
            "{} of revisions {} to {}{copied}",
            counted(known.records, "record"),
            grouped(known.first_revision),
            grouped(known.last_revision),
        ),
    );
    let mut text = page.text();
    text += "\nWays out, best first\n";
    let rows: Vec<_> = report.ways.iter().map(|way| of_way(report, way)).collect();
    columns(
        &[
            "#",
            "RECORDS",
            "TO REVISION",
            "REVISIONS MISSING",
            "RECORDS MISSING",
            "OPEN GAPS",
            "OTHER ROWS",
            "IN DOUBT",
        ],
        "WAY",
        &rows,
        &mut text,
    );
    for way in &report.ways {
        for note in &way.notes {
            text += &format!("{}: {}\n", way.number, shown(note));
        }
    }
    text
}

fn of_input(page: &mut Page, input: &InputReport) {
    let what = match input.kind {
        InputKind::File => "",
        InputKind::Member => ", the database of a member",
        InputKind::Received => ", a database that the member was sent",
        InputKind::Memory => ", in memory",
    };
    let trailer = if input.has_trailer { " and 32 bytes behind them, as a snapshot has" } else { "" };
    let guessed = if input.is_page_size_guessed { " (nothing says so; most pages fit)" } else { "" };
    let pages = match input.page_size {
        0 => "no pages of a database in it".to_owned(),
        size => {
            format!("{} of {} bytes{guessed}{trailer}", counted(input.pages, "page"), grouped(size))
        }
    };
    page.line(
        "input",
        &format!("{}{what}: {}, {pages}", named(&input.file), humanize::bytes(input.len_bytes)),
    );
    if input.first_page > 0 {
        page.more(&format!(
            "its first {} are cut off: it begins with page {}",
            counted(input.first_page, "page"),
            grouped(input.first_page)
        ));
    }
    if input.bad_bytes > 0 {
        page.more(&format!(
            "{} cannot be read: {}",
            humanize::bytes(input.bad_bytes),
            listed(input.bad_ranges.iter().map(bytes), MOST_LINES, 0)
        ));
    }
    for note in &input.notes {
        page.more(note);
    }
    if input.page_size > 0 {
        page.line("pages", &of_pages(&input.histogram));
    }
    let mut name = "metas";
    for meta in &input.metas {
        page.line(name, &of_meta(meta));
        name = "";
    }
}

/// What there is of each kind, most telling first.
fn of_pages(histogram: &Histogram) -> String {
    let Histogram {
        meta,
        key_leaves,
        root_leaves,
        small_leaves,
        other_leaves,
        branches,
        freelists,
        overflow,
        blank,
        unreadable,
        unknown,
        displaced,
        cut,
        unreached_key_leaves,
    } = *histogram;
    let unreached = match unreached_key_leaves {
        0 => String::new(),
        some => format!(" ({} of them in no tree any more)", grouped(some)),
    };
    let kinds = [
        (key_leaves, format!("with records of keys{unreached}")),
        (root_leaves, "with roots".to_owned()),
        (small_leaves, "of other buckets".to_owned()),
        (other_leaves, "of leaves that are none of etcd's".to_owned()),
        (branches, "of branches".to_owned()),
        (overflow, "that go on with those".to_owned()),
        (meta, "with metas".to_owned()),
        (freelists, "of freelists".to_owned()),
        (blank, "of one repeated byte".to_owned()),
        (unreadable, "that cannot be read".to_owned()),
        (unknown, "of which nothing can be said".to_owned()),
    ];
    let told = kinds.into_iter().filter(|(count, _)| *count > 0);
    let mut text =
        told.map(|(count, what)| format!("{} {what}", grouped(count))).collect::<Vec<_>>().join(", ");
    if displaced > 0 {
        text += &format!("; {} of the leaves stand in the wrong place", grouped(displaced));
    }
    if cut > 0 {
        text += &format!("; {} of the leaves lack a part", grouped(cut));
    }
    text
}

fn of_meta(meta: &MetaReport) -> String {
    match (&meta.fault, meta.transaction, meta.root_page) {
        (Some(fault), ..) => format!("{}: not valid: {fault}", meta.slot),
        (None, Some(transaction), Some(root)) => {
            format!("{}: transaction {}, root page {}", meta.slot, grouped(transaction), grouped(root))
        }
        _ => format!("{}: not valid", meta.slot),
    }
}

fn of_log(page: &mut Page, log: &LogReport) {
    let entries = match (log.first_index, log.last_index) {
        (Some(first), Some(last)) => format!("entries {} to {}", grouped(first), grouped(last)),
        _ => "no entries that can be read".to_owned(),
    };
    let commit = match log.commit_index {
        Some(commit) => format!(", up to {} known to be committed", grouped(commit)),
        None => String::new(),
    };
    page.line("log", &format!("{}: {entries}{commit}", named(&log.path)));
    for note in &log.notes {
        page.more(note);
    }
}

fn of_tree(report: &Report, at: usize, tree: &TreeReport) -> String {
    let origin = match tree.origin {
        Origin::NewestMeta => "newest meta".to_owned(),
        Origin::OtherMeta => "other meta".to_owned(),
        Origin::OrphanRoot => "a root that no meta names".to_owned(),
    };
    let of = match report.inputs.get(tree.input) {
        Some(input) if report.inputs.len() > 1 => format!(" of {}", named(&input.file)),
        _ => String::new(),
    };
    let compacted = match tree.compact_revision {
        Some(revision) => format!(", compacted at {}", grouped(revision)),
        None => String::new(),
    };
    let holes = (tree.holes.len() as u64).saturating_add(tree.more_holes);
    let state = match (tree.is_sound, holes) {
        (true, _) => "sound".to_owned(),
        (false, 0) => "damaged beside the keys".to_owned(),
        (false, holes) => format!("damaged, {} in its keys", counted(holes, "gap")),
    };
    let newest = if report.reference == Some(at) { "; the newest state there is" } else { "" };
    format!(
        "{origin}{of}, page {}: entry {}, revision {}{compacted}; {state}{newest}",
        grouped(tree.root_page),
        grouped(tree.consistent_index),
        grouped(tree.revision)
    )
}

fn of_way(report: &Report, way: &WayReport) -> (Vec<String>, String) {
    let loses = &way.loses;
    let numbers = [
        way.records,
        u64::try_from(way.last_revision).unwrap_or_default(),
        loses.revisions,
        loses.records,
        loses.open_holes,
        loses.small,
        loses.suspect,
    ];
    let taken = if way.number == report.chosen { "  <- this one" } else { "" };
    let cells = std::iter::once(way.number.to_string()).chain(numbers.map(grouped));
    (cells.collect(), format!("{}{taken}", shown(&way.name)))
}
