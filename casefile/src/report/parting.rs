//! Where sources part.

use super::data::{Data, Pair, Version};
use super::markup::{self, Column, Html, Page, Text};
use super::redact::shown_value;
use super::sections::badge;
use super::words::{counted, grouped, known, len};

/// Differences that are told of one by one for each pair.
const SAMPLES: usize = 20;

/// The section.
pub(super) fn section(data: &Data, page: &mut Page) {
    page.section("parting", "Where the histories part");
    if data.partings.is_empty() {
        page.paragraph(&Html::text(
            "There are no two databases in this case that could be held against each other.",
        ));
        return;
    }
    let columns = [
        Column::text("Sources"),
        Column::text("What both cover"),
        Column::number("Same"),
        Column::number("They part at"),
        Column::number("Different"),
        Column::number("In one only"),
        Column::number("Unreadable in one"),
        Column::number("Beyond one's end"),
        Column::text("Logs"),
    ];
    let rows: Vec<_> = data
        .partings
        .iter()
        .map(|parting| {
            let diff = &parting.diff;
            let verdict = match diff.part {
                Some(_) => badge("bad", "differs"),
                None if diff.same == 0 => badge("none", "nothing in common"),
                None if diff.unreadable > 0 => badge("warn", "the same where readable"),
                None => badge("good", "is the same"),
            };
            let both = if diff.same == 0 && diff.part.is_none() {
                verdict
            } else {
                Html::lines([
                    verdict,
                    Html::text(format_args!("revisions {} to {}", diff.from.max(1), diff.to)),
                ])
            };
            let log = diff.log_part.map_or_else(
                || {
                    diff.log_common.map_or_else(
                        || "–".to_owned(),
                        |(first, last)| format!("same from {first} to {last}"),
                    )
                },
                |(index, one, other)| format!("part at {index}: term {one}, term {other}"),
            );
            vec![
                Html::text(format_args!("{} and {}", parting.one, parting.other)),
                both,
                Html::text(grouped(diff.same)),
                Html::text(known(diff.part)),
                Html::text(grouped(diff.differs)),
                Html::text(grouped(diff.missing)),
                Html::text(grouped(diff.unreadable)),
                Html::text(grouped(diff.tail)),
                Html::text(log),
            ]
        })
        .collect();
    let with = data.sources.iter().filter(|of| of.source.key_space.is_some()).count();
    if data.partings.len() < with * with.saturating_sub(1) / 2 {
        page.paragraph(&Html::text(
            "Not every pair is here: sources of different clusters were not compared, and of more than six sources each was held against the one that \
             goes furthest only.",
        ));
    }
    page.table(&Html::text("The databases, held against each other in pairs."), &columns, &rows);
    for parting in data.partings.iter().filter(|parting| !parting.samples.is_empty()) {
        samples(parting, page);
    }
}

fn samples(parting: &Pair, page: &mut Page) {
    page.push(format_args!("<h3>{} and {}</h3>", Text(&parting.one), Text(&parting.other)));
    let columns = [
        Column::text("Revision"),
        Column::text(format!("In {}", parting.one)),
        Column::text(format!("In {}", parting.other)),
    ];
    let rows: Vec<_> = parting
        .samples
        .iter()
        .take(SAMPLES)
        .map(|sample| {
            let at = if sample.sub == 0 {
                sample.main.to_string()
            } else {
                format!("{}.{}", sample.main, sample.sub)
            };
            vec![Html::text(at), held(sample.one.as_ref()), held(sample.other.as_ref())]
        })
        .collect();
    let diff = &parting.diff;
    let more = diff.differs.saturating_add(diff.missing).saturating_sub(len(&rows));
    let rest = if more > 0 { format!(" {} more are not shown.", grouped(more)) } else { String::new() };
    page.table(
        &Html::text(format_args!(
            "Revisions that {} and {} have differently.{rest}",
            parting.one, parting.other
        )),
        &columns,
        &rows,
    );
}

fn held(held: Option<&Version>) -> Html {
    let Some(held) = held else {
        return badge("none", "not there");
    };
    let mut lines = vec![Html::code(markup::name(&held.key))];
    if held.deleted {
        lines.push(Html::text("deleted"));
    } else {
        lines.push(Html::text(format_args!(
            "version {}, {}",
            held.version,
            counted(held.value_len, "byte", "bytes")
        )));
    }
    if let Some(value) = held.value.as_ref().filter(|_| !held.deleted) {
        lines.push(Html::text("value ").and(&Html::code(shown_value(value))));
    }
    if let Some(hash) = held.value_hash.as_ref().filter(|_| !held.deleted) {
        lines.push(Html::text("value's SHA-256 ").and(&Html::code(hash)));
    }
    if !held.place.is_empty() {
        lines.push(Html::of(format!("<span class=\"soft\">{}</span>", Text(&held.place))));
    }
    Html::lines(lines)
}
