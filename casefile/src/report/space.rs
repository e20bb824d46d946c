//! What fills a database, as a treemap: an area for each prefix, in force and history apart, beside what is free.

use std::fmt::Write as _;

use snapshot::humanize;

use super::data::{Examined, Prefix};
use super::markup::{Column, Html, Page, Text};
use super::page_map::page_bytes;
use super::treemap::{Rect, squarified};
use super::words::{grouped, share};
use crate::source::PageUse;

/// The picture's own units.
const ROOM: Rect = Rect { x: 0.0, y: 0.0, width: 1000.0, height: 560.0 };
/// Height of the strip with the name of a prefix that has others below it.
const STRIP: f64 = 30.0;
/// Colours there are for prefixes.
const COLOURS: usize = 8;

/// One tile of the first level.
struct Tile<'a> {
    bytes: u64,
    class: String,
    prefix: Option<&'a Prefix>,
    name: String,
}

fn bytes_of(prefix: &Prefix) -> u64 {
    prefix.live_bytes.saturating_add(prefix.history_bytes)
}

/// The figure, and the table that says the same.
pub(super) fn figure(of: &Examined, page: &mut Page) {
    let source = of.source.name.as_str();
    let in_file = of.database_bytes().unwrap_or_default();
    let in_keys = of.space.iter().fold(0_u64, |sum, prefix| sum.saturating_add(bytes_of(prefix)));
    let bytes_of_pages = |usage| {
        let runs = of.pages.iter().filter(|run| run.usage == usage);
        runs.fold(0_u64, |sum, run| sum.saturating_add(run.pages)).saturating_mul(page_bytes(of))
    };
    let (free, beyond) = (bytes_of_pages(PageUse::Free), bytes_of_pages(PageUse::Beyond));
    let in_use = in_file.saturating_sub(beyond);
    let other = in_use.saturating_sub(in_keys).saturating_sub(free);
    if in_keys == 0 && free == 0 {
        return;
    }
    let mut tiles: Vec<Tile<'_>> = of
        .space
        .iter()
        .filter(|prefix| bytes_of(prefix) > 0)
        .map(|prefix| Tile {
            bytes: bytes_of(prefix),
            class: String::new(),
            prefix: Some(prefix),
            name: prefix.name.clone(),
        })
        .collect();
    tiles.sort_by(|one, next| next.bytes.cmp(&one.bytes).then_with(|| one.name.cmp(&next.name)));
    for (index, tile) in tiles.iter_mut().enumerate() {
        tile.class = format!("t{}", index % COLOURS);
    }
    for (bytes, class, name) in
        [(free, "t-free", "free pages"), (other, "t-other", "everything else in the file")]
    {
        if bytes > 0 {
            tiles.push(Tile { bytes, class: class.to_owned(), prefix: None, name: name.to_owned() });
        }
    }
    tiles.sort_by_key(|tile| std::cmp::Reverse(tile.bytes));
    let (svg, labels) = drawn(&tiles);
    let said: Vec<String> =
        tiles.iter().map(|tile| format!("{}: {}", tile.name, humanize::bytes(tile.bytes))).collect();
    let number = page.next_figure();
    page.push(format_args!(
        "<figure id=\"figure-{number}\" class=\"treemap\">\n<div class=\"tiles\"><svg viewBox=\"0 0 {} {}\" preserveAspectRatio=\"none\" \
         role=\"img\" aria-label=\"{}\">{svg}</svg>{labels}</div>",
        ROOM.width,
        ROOM.height,
        Text(format_args!("What fills the database of {source}. {}.", said.join("; ")))
    ));
    page.push(
        "<ul class=\"legend\"><li><i class=\"t0\"></i>in force</li><li><i class=\"t0 hatched\"></i>history: superseded and deleted</li>\
         <li><i class=\"t-free\"></i>free pages</li><li><i class=\"t-other\"></i>everything else</li></ul>",
    );
    page.push(format_args!(
        "<figcaption><b>Figure {number}.</b> What fills the database of {}: {} up to its high-water mark. Areas are bytes of records; \
         everything else is heads of pages and of their elements, unused room in pages, and the other buckets{}.</figcaption>\n</figure>",
        Text(source),
        humanize::bytes(in_use),
        if of.source.key_space.as_ref().is_some_and(|space| !space.is_whole()) {
            ", and what cannot be read"
        } else {
            ""
        }
    ));
    table(
        of,
        [("free pages", free), ("everything else", other), ("behind the high-water mark", beyond)],
        in_file,
        page,
    );
}

/// Rectangles and labels.
fn drawn(tiles: &[Tile<'_>]) -> (String, String) {
    let sizes: Vec<u64> = tiles.iter().map(|tile| tile.bytes).collect();
    let (mut svg, mut labels) = (String::new(), String::new());
    for (tile, room) in tiles.iter().zip(squarified(&sizes, ROOM)) {
        let room = room.inset(1.5);
        let below: Vec<&Prefix> = tile
            .prefix
            .iter()
            .flat_map(|prefix| &prefix.below)
            .filter(|prefix| bytes_of(prefix) > 0)
            .collect();
        if below.len() < 2 || room.height < 3.0 * STRIP || room.width < 4.0 * STRIP {
            let history = tile.prefix.map_or(0.0, history);
            one(&mut svg, &tile.class, room, history);
            label(&mut labels, room, &tile.name, tile.bytes);
            continue;
        }
        rect(&mut svg, &tile.class, room);
        label(&mut labels, Rect { height: STRIP, ..room }, &tile.name, tile.bytes);
        let mut below = below;
        below.sort_by_key(|prefix| std::cmp::Reverse(bytes_of(prefix)));
        let sizes: Vec<u64> = below.iter().map(|prefix| bytes_of(prefix)).collect();
        let inner = Rect { y: room.y + STRIP, height: room.height - STRIP, ..room }.inset(2.0);
        for (prefix, room) in below.into_iter().zip(squarified(&sizes, inner)) {
            let room = room.inset(1.0);
            one(&mut svg, &format!("{} in", tile.class), room, history(prefix));
            // A number in the place of a name is no path.
            let above = if tile.name.ends_with('/') { tile.name.as_str() } else { "" };
            let name = prefix.name.strip_prefix(above).filter(|rest| !rest.is_empty());
            label(&mut labels, room, name.unwrap_or(&prefix.name), bytes_of(prefix));
        }
    }
    (svg, labels)
}

/// How much of a prefix is history.
fn history(prefix: &Prefix) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "a picture")]
    let share = prefix.history_bytes as f64 / bytes_of(prefix).max(1) as f64;
    share
}

/// A tile, hatched from below as far as it is history.
fn one(svg: &mut String, class: &str, room: Rect, history: f64) {
    rect(svg, class, room);
    let height = room.height * history;
    if height >= 0.5 {
        rect(svg, "hatch", Rect { y: room.y + room.height - height, height, ..room });
    }
}

fn rect(svg: &mut String, class: &str, room: Rect) {
    let Rect { x, y, width, height } = room;
    if width < 0.05 || height < 0.05 {
        return;
    }
    // Writing to a string does not fail.
    let _ = write!(
        svg,
        "<rect class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{height:.1}\"/>"
    );
}

/// What stands on a tile, where there is room for it at all.
fn label(labels: &mut String, room: Rect, name: &str, bytes: u64) {
    let Rect { x, y, width, height } = room;
    if width < 24.0 || height < 14.0 {
        return;
    }
    let of = |part: f64, whole: f64| part / whole * 100.0;
    let _ = write!(
        labels,
        "<span class=\"on\" style=\"left:{:.2}%;top:{:.2}%;width:{:.2}%;height:{:.2}%\"><span><b>{}</b><small>{}</small></span></span>",
        of(x, ROOM.width),
        of(y, ROOM.height),
        of(width, ROOM.width),
        of(height, ROOM.height),
        Text(name),
        humanize::bytes(bytes)
    );
}

fn table(of: &Examined, others: [(&str, u64); 3], in_file: u64, page: &mut Page) {
    let columns = [
        Column::text("Prefix"),
        Column::number("Keys"),
        Column::number("Bytes in force, or taken"),
        Column::number("Superseded records"),
        Column::number("Bytes of history"),
        Column::number("Share of the file"),
    ];
    let mut prefixes: Vec<&Prefix> = of.space.iter().collect();
    prefixes.sort_by(|one, next| bytes_of(next).cmp(&bytes_of(one)).then_with(|| one.name.cmp(&next.name)));
    let mut rows: Vec<Vec<Html>> = prefixes
        .into_iter()
        .map(|prefix| {
            vec![
                if prefix.is_rest { Html::text(&prefix.name) } else { Html::code(&prefix.name) },
                Html::text(grouped(prefix.live_keys)),
                Html::text(grouped(prefix.live_bytes)),
                Html::text(grouped(prefix.history_records)),
                Html::text(grouped(prefix.history_bytes)),
                Html::text(share(bytes_of(prefix), in_file)),
            ]
        })
        .collect();
    for (name, bytes) in others {
        let none = Html::text("–");
        rows.push(vec![
            Html::text(name),
            none.clone(),
            Html::text(grouped(bytes)),
            none.clone(),
            none,
            Html::text(share(bytes, in_file)),
        ]);
    }
    page.table(
        &Html::text(format_args!("What fills the database of {}, by prefix.", of.source.name)),
        &columns,
        &rows,
    );
}
