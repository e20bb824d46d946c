//! In which order the segments belong, whatever they are called.

use std::collections::{HashMap, HashSet};

use super::Edit;
use super::survey::{File, edited};
use crate::log::Segments;

/// Segments in their order, and those that have no place in it.
#[derive(Debug)]
pub(super) struct Ordered {
    /// In the order of the log.
    pub(super) files: Vec<File>,
    /// Copies of others, or of their beginnings, each with the name of the other.
    pub(super) copies: Vec<(File, String)>,
    /// Segments of another member's log.
    pub(super) foreign: Vec<File>,
    /// Segments in which no record stands.
    pub(super) empty: Vec<File>,
    /// Metadata, as the log's segments have it.
    pub(super) metadata: Option<Vec<u8>>,
}

/// Puts `files`, which come in the order of their names, in the order of the log.
pub(super) fn order(files: Vec<File>, segments: &impl Segments, edits: &[Edit]) -> Ordered {
    let metadata = common_metadata(&files);
    let mut ordered =
        Ordered { files: Vec::new(), copies: Vec::new(), foreign: Vec::new(), empty: Vec::new(), metadata };
    let mut own = Vec::new();
    for file in files {
        let is_foreign = file.metadata.is_some() && file.metadata != ordered.metadata;
        if file.spans.is_empty() && !file.tail.is_loss() && file.tail.after_end.is_none() {
            ordered.empty.push(file);
        } else if is_foreign {
            ordered.foreign.push(file);
        } else {
            own.push(file);
        }
    }
    let own = without_copies(own, &mut ordered.copies, segments, edits);
    ordered.files = by_chain(own);
    ordered
}

/// The metadata most segments have; of several the one that comes first.
fn common_metadata(files: &[File]) -> Option<Vec<u8>> {
    let mut counts: Vec<(&Vec<u8>, usize)> = Vec::new();
    for metadata in files.iter().filter_map(|file| file.metadata.as_ref()) {
        match counts.iter_mut().find(|(known, _)| *known == metadata) {
            Some((_, count)) => *count += 1,
            None => counts.push((metadata, 1)),
        }
    }
    let most = counts.iter().map(|(_, count)| *count).max()?;
    counts.into_iter().find(|(_, count)| *count == most).map(|(metadata, _)| metadata.clone())
}

/// Takes out segments that hold nothing but what another holds too: its beginning, or what damage left of it.
fn without_copies(
    files: Vec<File>,
    copies: &mut Vec<(File, String)>,
    segments: &impl Segments,
    edits: &[Edit],
) -> Vec<File> {
    let mut kept: Vec<File> = Vec::new();
    for file in files {
        let rival = kept.iter().enumerate().find_map(|(at, other)| {
            if holds(&file, other, segments, edits) {
                return Some((at, true));
            }
            holds(other, &file, segments, edits).then_some((at, false))
        });
        let Some((other, file_has_more)) = rival.and_then(|(at, more)| Some((kept.get_mut(at)?, more)))
        else {
            kept.push(file);
            continue;
        };
        let dropped = if file_has_more { std::mem::replace(other, file) } else { file };
        let name = other.name.clone();
        copies.push((dropped, name));
    }
    kept
}

/// Whether all that can be read of `part` stands in the same places of `whole`, which is one chain from its head on and goes
/// further, or as far.
fn holds(whole: &File, part: &File, segments: &impl Segments, edits: &[Edit]) -> bool {
    let ([all], [first, ..]) = (whole.spans.as_slice(), part.spans.as_slice()) else { return false };
    let same_head = part.head.is_none() || part.head == whole.head;
    // A head alone is that of any segment that begins there.
    let says_something = first.from == 0 && first.records > 1 || part.runs().next().is_some();
    if whole.head.is_none() || !same_head || all.from != 0 || !says_something {
        return false;
    }
    let (whole, bytes) = (whole.segment, part.segment);
    let whole = edited(segments.piece(whole), edits, whole);
    let bytes = edited(segments.piece(bytes), edits, bytes);
    part.spans.iter().all(|span| {
        let (Ok(from), Ok(to)) = (usize::try_from(span.from), usize::try_from(span.to)) else { return false };
        span.to <= all.to && whole.get(from..to).is_some_and(|there| bytes.get(from..to) == Some(there))
    })
}

/// The order in which each segment's head states the CRC with which the one before it ends, where the order of names
/// has more gaps.
fn by_chain(files: Vec<File>) -> Vec<File> {
    let links =
        |files: &[&File]| files.windows(2).filter(|pair| matches!(pair, [a, b] if continues(a, b))).count();
    let in_names: Vec<&File> = files.iter().collect();
    let linked_by_name = links(&in_names);
    if linked_by_name + 1 >= files.len() {
        return files;
    }
    let mut heads: HashMap<u32, Vec<usize>> = HashMap::new();
    for (at, file) in files.iter().enumerate() {
        if let Some(head) = file.head {
            heads.entry(head).or_default().push(at);
        }
    }
    let next = |at: usize| -> Option<usize> {
        let from = files.get(at)?;
        let candidates = heads.get(&from.end_crc()?)?;
        match candidates.as_slice() {
            [only] if *only != at && files.get(*only).is_some_and(|to| continues(from, to)) => Some(*only),
            _ => None,
        }
    };
    let followed: HashSet<usize> = (0..files.len()).filter_map(next).collect();
    let mut chains: Vec<Vec<usize>> = Vec::new();
    let mut placed = HashSet::new();
    for start in (0..files.len()).filter(|at| !followed.contains(at)) {
        let mut chain = Vec::new();
        let mut at = Some(start);
        while let Some(here) = at.filter(|here| placed.insert(*here)) {
            chain.push(here);
            at = next(here);
        }
        chains.push(chain);
    }
    if placed.len() != files.len() {
        return files;
    }
    // By their first entries; of chains without, by the name of their first segment.
    let place = |chain: &Vec<usize>| {
        let of = |at: &usize| files.get(*at);
        let first = chain.iter().filter_map(of).flat_map(File::runs).map(|run| run.first).next();
        let name = chain.first().and_then(of);
        (first.or_else(|| name.map(|file| file.index)), name.map(|file| file.seq))
    };
    chains.sort_by_key(place);
    let order: Vec<usize> = chains.into_iter().flatten().collect();
    let in_chain: Vec<&File> = order.iter().filter_map(|at| files.get(*at)).collect();
    if links(&in_chain) <= linked_by_name {
        return files;
    }
    let mut slots: Vec<Option<File>> = files.into_iter().map(Some).collect();
    order.into_iter().filter_map(|at| slots.get_mut(at).and_then(Option::take)).collect()
}

fn continues(a: &File, b: &File) -> bool {
    let crc = a.end_crc();
    // A chain of zero is that of a log's first segment.
    crc.is_some_and(|crc| crc != 0) && crc == b.head
}

/// The sequence number that most names agree the first segment has.
pub(super) fn first_seq(files: &[&File]) -> u64 {
    let mut votes: Vec<(u64, usize)> = Vec::new();
    for (file, place) in files.iter().zip(0u64..) {
        let Some(first) = file.seq.checked_sub(place) else { continue };
        match votes.iter_mut().find(|(known, _)| *known == first) {
            Some((_, count)) => *count += 1,
            None => votes.push((first, 1)),
        }
    }
    let most = votes.iter().map(|(_, count)| *count).max().unwrap_or_default();
    votes.into_iter().find(|(_, count)| *count == most).map_or(0, |(first, _)| first)
}
