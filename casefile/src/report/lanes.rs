//! What each source holds of one history, on lanes below each other: the log over its index, the records over their revision.

use std::fmt::Write as _;

use super::data::{Bin, Data, Examined};
use super::markup::{Html, Page, Text};
use super::words::counted;
use crate::source::{LogSummary, Source};

/// Width of a lane in the picture's units.
const WIDTH: f64 = 1000.0;
/// Height of a lane in the picture's units.
const HEIGHT: f64 = 40.0;
/// Colours there are for terms.
const COLOURS: u64 = 4;
/// Terms whose names are put on a lane, at most; all are in the table.
const NAMED: usize = 400;

/// Stretches that are told one by one in the text alternative of a lane, at most.
const TOLD: usize = 40;
/// What a shape must add to those before it, in the picture's units.
const LEAST: f64 = 0.2;

/// The largest number at the end of an axis that has others between its ends.
const LONGEST: u64 = 9_999_999_999;

/// From where to where a chart goes.
#[derive(Debug, Clone, Copy)]
struct Axis {
    first: u64,
    last: u64,
}

impl Axis {
    /// Over all of `numbers`; `None` when there are none.
    fn over(numbers: impl Iterator<Item = u64>) -> Option<Self> {
        numbers.fold(None, |along, number| {
            let Self { first, last } = along.unwrap_or(Self { first: number, last: number });
            Some(Self { first: first.min(number), last: last.max(number) })
        })
    }

    /// Where `number` is, from 0 to 1; what lies outside is at the end.
    fn at(self, number: u64) -> f64 {
        let whole = (self.last - self.first).saturating_add(1);
        let part = number.clamp(self.first, self.last) - self.first;
        #[expect(clippy::cast_precision_loss, reason = "a picture")]
        let at = part as f64 / whole as f64;
        at
    }

    /// Where the numbers from `first` to `last` are: their beginning and their width, both from 0 to 1.
    fn span(self, first: u64, last: u64) -> (f64, f64) {
        #[expect(clippy::cast_precision_loss, reason = "a picture")]
        let one = 1.0 / (self.last - self.first).saturating_add(1) as f64;
        let at = self.at(first);
        (at, (self.at(last.max(first)) - at + one).min(1.0 - at))
    }

    /// Round numbers along it, and its ends.
    fn ticks(self) -> Vec<u64> {
        let whole = self.last - self.first;
        let mut step = 1_u64;
        let mut factors = [2, 5, 10].into_iter().cycle();
        let mut base = 1_u64;
        while whole / step > 5 {
            match factors.next() {
                Some(10) | None => {
                    base = base.saturating_mul(10);
                    step = base;
                }
                Some(factor) => step = base.saturating_mul(factor),
            }
        }
        // Numbers of so many digits have no room between the ends.
        if self.last > LONGEST {
            return vec![self.first, self.last];
        }
        let mut ticks = vec![self.first];
        let mut next = (self.first / step).saturating_add(1).saturating_mul(step);
        while next < self.last {
            // Two numbers closer than half a step would stand in each other.
            if next - self.first >= step / 2 && self.last - next >= step / 2 {
                ticks.push(next);
            }
            next = next.saturating_add(step);
        }
        if self.last > self.first {
            ticks.push(self.last);
        }
        ticks
    }
}

fn percent(part: f64) -> String {
    format!("{:.3}%", part * 100.0)
}

/// One lane as it is drawn.
#[derive(Debug, Default)]
struct Lane {
    svg: String,
    over: String,
    drawn: f64,
}

impl Lane {
    fn rect(&mut self, class: &str, (at, width): (f64, f64), (top, height): (f64, f64)) {
        // What is there is seen, however little it is.
        let width = (width * WIDTH).max(0.6);
        // Writing to a string does not fail.
        let _ = write!(
            self.svg,
            "<rect class=\"{class}\" x=\"{:.2}\" y=\"{top:.1}\" width=\"{width:.2}\" height=\"{height:.1}\"/>",
            (at * WIDTH).min(WIDTH - width)
        );
    }

    /// The same for one of many that ascend: what adds nothing to be seen is not drawn, so that a lane has some thousand shapes at most.
    fn next_rect(&mut self, class: &str, span: (f64, f64), rows: (f64, f64)) {
        let end = (span.0 + span.1) * WIDTH;
        if end >= self.drawn {
            self.rect(class, span, rows);
            self.drawn = end + LEAST;
        }
    }

    fn name(&mut self, (at, width): (f64, f64), text: impl std::fmt::Display) {
        let _ = write!(
            self.over,
            "<span class=\"on\" style=\"left:{};width:{}\"><span>{}</span></span>",
            percent(at),
            percent(width),
            Text(text)
        );
    }

    fn mark(&mut self, class: &str, at: f64) {
        let _ = write!(self.over, "<i class=\"mark {class}\" style=\"left:{}\"></i>", percent(at));
    }

    fn push(self, page: &mut Page, who: &str, said: &str) {
        page.push(format_args!(
            "<div class=\"lane\"><div class=\"who\">{}</div><div class=\"track\"><svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" \
             preserveAspectRatio=\"none\" role=\"img\" aria-label=\"{}\">{}</svg>{}</div></div>",
            Text(who),
            Text(said),
            self.svg,
            self.over
        ));
    }
}

fn axis(page: &mut Page, name: &str, axis: Axis) {
    let mut ticks = String::new();
    let all = axis.ticks();
    for (index, tick) in all.iter().enumerate() {
        let class = match index {
            0 => "first",
            _ if index + 1 == all.len() => "last",
            _ if index % 2 == 1 && all.len() > 4 => "between odd",
            _ => "between",
        };
        let at = if class == "last" { 1.0 } else { axis.at(*tick) };
        let _ = write!(ticks, "<span class=\"{class}\" style=\"left:{}\">{tick}</span>", percent(at));
    }
    page.push(format_args!(
        "<div class=\"lane axis\"><div class=\"who\">{name}</div><div class=\"track\">{ticks}</div></div>"
    ));
}

fn legend(page: &mut Page, rows: &[(&str, &str)]) {
    page.push("<ul class=\"legend\">");
    for (class, name) in rows {
        page.push(format_args!("<li><i class=\"{class}\"></i>{name}</li>"));
    }
    page.push("</ul>");
}

/// The logs over their indexes, with terms, snapshots, commit and database marked.
pub(super) fn by_index(data: &Data, page: &mut Page) {
    let with: Vec<&Source> = data
        .sources
        .iter()
        .map(|of| &of.source)
        .filter(|source| {
            source.log.as_ref().is_some_and(|log| !log.terms.is_empty())
                || snaps_of(source).next().is_some()
                || index_of(source).is_some()
        })
        .collect();
    let terms = with.iter().filter_map(|source| source.log.as_ref()).flat_map(|log| &log.terms);
    let ends = terms.flat_map(|run| [run.first, run.last]);
    let snaps = with.iter().flat_map(|source| snaps_of(source)).map(|(index, _)| index);
    let applied = with.iter().filter_map(|source| index_of(source));
    let Some(along) = Axis::over(ends.chain(snaps).chain(applied)) else {
        return;
    };
    let number = page.next_figure();
    page.push(format_args!("<figure id=\"figure-{number}\" class=\"chart\">\n<div class=\"lanes\">"));
    for source in &with {
        let mut lane = Lane::default();
        let mut said = Vec::new();
        if let Some(log) = &source.log {
            for (count, run) in log.terms.iter().enumerate() {
                let span = along.span(run.first, run.last);
                lane.next_rect(&format!("term{}", run.term % COLOURS), span, (4.0, HEIGHT - 16.0));
                if count < NAMED {
                    lane.name(span, format_args!("term {}", run.term));
                }
            }
            said.push(log_said(log));
            if let commit @ 1.. = log.commit {
                lane.mark("commit", along.at(commit));
                said.push(format!("known to be committed up to {commit}"));
            }
        }
        for (count, (index, _)) in snaps_of(source).enumerate() {
            lane.mark("snap", along.at(index));
            if count < TOLD {
                said.push(format!("snapshot at {index}"));
            }
        }
        if let Some(index) = index_of(source) {
            lane.mark("db", along.at(index));
            said.push(format!("database at {index}"));
        }
        lane.push(page, &source.name, &format!("{}: {}", source.name, said.join(", ")));
    }
    axis(page, "index", along);
    page.push("</div>");
    legend(
        page,
        &[
            ("terms", "entries, in another colour for each term"),
            ("mark snap", "snapshot file"),
            ("mark commit", "commit index the member knew"),
            ("mark db", "last entry applied to the database"),
        ],
    );
    page.push(format_args!(
        "<figcaption><b>Figure {number}.</b> The log of each source over the index of its entries. The numbers are in the table below.</figcaption>\n</figure>"
    ));
}

/// The last entry that was applied to its database.
pub(super) fn index_of(source: &Source) -> Option<u64> {
    Some(source.key_space.as_ref()?.consistent_index)
}

/// Index and term of its readable snapshot files, ascending.
pub(super) fn snaps_of(source: &Source) -> impl Iterator<Item = (u64, Option<u64>)> {
    let read = source.snaps.iter().filter(|snap| snap.kind == "snap" && snap.fault.is_none());
    let mut all: Vec<_> = read.filter_map(|snap| Some((snap.index?, snap.term))).collect();
    all.sort_unstable();
    all.into_iter()
}

/// The log in words.
pub(super) fn log_said(log: &LogSummary) -> String {
    let mut said = Vec::new();
    for run in log.terms.iter().take(TOLD) {
        said.push(format!("{} to {} of term {}", run.first, run.last, run.term));
    }
    match said.is_empty() {
        true => "no entries".to_owned(),
        false => format!("entries {}", said.join(", ")),
    }
}

/// The records of each source over their revisions, with compaction, end and where sources part.
pub(super) fn by_revision(data: &Data, page: &mut Page) {
    let with: Vec<&Examined> = data.sources.iter().filter(|of| !of.history.is_empty()).collect();
    let bins = with.iter().flat_map(|of| &of.history);
    let Some(along) = Axis::over(bins.clone().flat_map(|bin| [number(bin.first), number(bin.last)])) else {
        return;
    };
    let tallest = bins.map(density).fold(0.0, f64::max);
    let number_of = page.next_figure();
    page.push(format_args!(
        "<figure id=\"figure-{number_of}\" class=\"chart\">\n<div class=\"lanes by-revision\">"
    ));
    let (mut parts, mut compacts) = (false, false);
    for of in &with {
        let source = &of.source;
        let Some(space) = &source.key_space else { continue };
        let mut lane = Lane::default();
        let mut said = vec![counted(space.records, "record", "records")];
        if let Some(compacted) = space.compacted.filter(|compacted| *compacted > 0) {
            compacts = true;
            lane.rect("compacted", along.span(along.first, number(compacted)), (0.0, HEIGHT));
            said.push(format!("compacted at revision {compacted}"));
        }
        for bin in &of.history {
            let height = if tallest > 0.0 { (density(bin) / tallest).sqrt() * (HEIGHT - 4.0) } else { 0.0 };
            if bin.records > 0 {
                let height = height.max(1.5);
                lane.rect(
                    "records",
                    along.span(number(bin.first), number(bin.last)),
                    (HEIGHT - height, height),
                );
            }
        }
        // Holes lie over what is drawn already, and ascend by themselves.
        lane.drawn = 0.0;
        for (at, (from, to)) in space.holes.iter().enumerate() {
            let to = to.map_or(along.last, |to| number(to).saturating_sub(1));
            lane.next_rect("hole", along.span(number(*from), to), (0.0, HEIGHT));
            if at < TOLD {
                said.push(format!("damaged from revision {from}"));
            }
        }
        lane.mark("end", along.at(number(space.revision)));
        said.push(format!("last revision {}", space.revision));
        for parting in &data.partings {
            if let Some(first) = parting.diff.part
                && [&parting.one, &parting.other].contains(&&source.name)
            {
                parts = true;
                lane.mark("parting", along.at(number(first)));
                let other = if parting.one == source.name { &parting.other } else { &parting.one };
                said.push(format!("parts from {other} at revision {first}"));
            }
        }
        lane.push(page, &source.name, &format!("{}: {}", source.name, said.join(", ")));
    }
    axis(page, "revision", along);
    page.push("</div>");
    let holes =
        with.iter().any(|of| of.source.key_space.as_ref().is_some_and(|space| !space.holes.is_empty()));
    let mut rows = vec![
        ("records", "records for each revision (by the square root, one scale for all)"),
        ("mark end", "last revision"),
    ];
    if compacts {
        rows.push(("compacted", "compacted: only what was in force then is left"));
    }
    if holes {
        rows.push(("hole", "lies below damaged pages"));
    }
    if parts {
        rows.push(("mark parting", "first revision that another source has otherwise"));
    }
    legend(page, &rows);
    page.push(format_args!(
        "<figcaption><b>Figure {number_of}.</b> What each database holds of the history, over the revision.</figcaption>\n</figure>"
    ));
}

fn number(revision: i64) -> u64 {
    u64::try_from(revision).unwrap_or_default()
}

/// Records for each revision of a stretch.
fn density(bin: &Bin) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "a picture")]
    let density =
        bin.records as f64 / number(bin.last).saturating_sub(number(bin.first)).saturating_add(1) as f64;
    density
}

/// A paragraph that says what the first chart shows, where there is no chart.
pub(super) fn nothing() -> Html {
    Html::text("None of the sources has a log, a snapshot file or a database that says at which entry it is.")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_axis_of_any_length() {
        let ticks = |first, last| Axis { first, last }.ticks();
        assert_eq!(ticks(0, 0), [0]);
        assert_eq!(ticks(1, 4252), [1, 1000, 2000, 3000, 4252]);
        assert_eq!(ticks(7, 9), [7, 8, 9]);
        assert_eq!(ticks(0, u64::MAX), [0, u64::MAX]);
        for last in (1..LONGEST).step_by(99_999_989) {
            let all = ticks(1, last);
            assert!(all.len() <= 7 && all.is_sorted(), "{all:?}");
        }
    }

    #[test]
    fn spans_stay_on_the_lane() {
        let along = Axis { first: 10, last: 19 };
        assert_eq!(along.span(10, 19), (0.0, 1.0));
        let (at, width) = along.span(19, 19);
        assert!((at - 0.9).abs() < 1e-9 && (width - 0.1).abs() < 1e-9);
        let (at, width) = along.span(1, 5);
        assert!(at >= 0.0 && at + width <= 1.0);
    }
}
