//! A file under damage, with a book of what every page of it still is.

use std::ops::Range;

use super::plain::PlainFile;
use crate::damage::Rng;

/// A page of an undamaged file: which of the files that a [`Specimen`](super::Specimen) consists of, and which page.
pub type Origin = (usize, usize);

/// What one page of a damaged file is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// The page whose bytes it has; `None` where they are gone.
    pub origin: Option<Origin>,
    /// Bytes of it that were changed, by their offset in the page.
    pub spoiled: Vec<Range<usize>>,
    /// Bytes of which one bit was turned and which the rest of the page tells, so that nothing of what it held is lost.
    pub told: Vec<usize>,
}

/// What a page that is damaged is filled with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fill {
    /// Zeros.
    Zeros,
    /// Bytes that follow from the seed.
    Noise,
}

/// The bytes of a file, and what became of its pages.
#[derive(Clone, Debug)]
pub struct Damaged {
    bytes: Vec<u8>,
    page_size: usize,
    places: Vec<Place>,
    /// Whether the book is all that is known of it.
    is_booked: bool,
}

impl Damaged {
    /// File 0, undamaged.
    #[must_use]
    pub fn new(bytes: Vec<u8>, page_size: usize) -> Self {
        let pages = bytes.len().div_ceil(page_size);
        let places = (0..pages).map(|page| Place { origin: Some((0, page)), ..Place::default() }).collect();
        Self { bytes, page_size, places, is_booked: true }
    }

    /// Becomes a copy of file 0 that was made while it was written: pages that `whole` has are booked, and of the others nobody
    /// knows what they are.
    pub fn become_copy(&mut self, copy: &[u8], whole: PlainFile<'_>) {
        *self = Self::new(copy.to_vec(), self.page_size);
        self.is_booked = false;
        let file = PlainFile::with_page_size(copy, self.page_size);
        for (at, place) in self.places.iter_mut().enumerate() {
            if file.page(at) != whole.page(at) {
                place.origin = None;
            }
        }
    }

    /// Whether the book tells of every page that may hold something.
    #[must_use]
    pub fn is_booked(&self) -> bool {
        self.is_booked
    }

    /// The bytes as they are now.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The bytes as they are now, to be read.
    #[must_use]
    pub fn file(&self) -> PlainFile<'_> {
        PlainFile::with_page_size(&self.bytes, self.page_size)
    }

    /// What each page is.
    #[must_use]
    pub fn places(&self) -> &[Place] {
        &self.places
    }

    /// Where a page of file 0 lies now, if it is anywhere.
    #[must_use]
    pub fn find(&self, page: usize) -> Option<usize> {
        let is_at_home = self.places.get(page).is_some_and(|place| place.origin == Some((0, page)));
        if is_at_home {
            Some(page)
        } else {
            self.places.iter().position(|place| place.origin == Some((0, page)))
        }
    }

    fn span(&self, at: usize) -> Range<usize> {
        let start = (at * self.page_size).min(self.bytes.len());
        start..(start + self.page_size).min(self.bytes.len())
    }

    /// Loses what the page at `at` held.
    pub fn fill(&mut self, at: usize, fill: Fill, rng: &mut Rng) {
        let span = self.span(at);
        match fill {
            Fill::Zeros => self.bytes[span].fill(0),
            Fill::Noise => {
                for chunk in self.bytes[span].chunks_mut(8) {
                    chunk.copy_from_slice(&rng.next_u64().to_le_bytes()[..chunk.len()]);
                }
            }
        }
        self.places[at] = Place::default();
    }

    /// Overwrites the page at `at` with bytes that are none of a file's page, shorter ones padded with zeros.
    pub fn overwrite(&mut self, at: usize, with: &[u8]) {
        let span = self.span(at);
        let mut page = with.to_vec();
        page.resize(self.page_size, 0);
        let len = span.len();
        self.bytes[span].copy_from_slice(&page[..len]);
        self.places[at] = Place::default();
    }

    /// Puts a page of the file `other` of this number in place of the page at `at`.
    pub fn replace(&mut self, at: usize, number: usize, other: PlainFile<'_>, page: usize) {
        self.overwrite(at, other.page(page));
        self.places[at].origin = Some((number, page));
    }

    /// Puts the page at `from` also at `to`, over what was there.
    pub fn duplicate(&mut self, from: usize, to: usize) {
        let bytes = self.bytes[self.span(from)].to_vec();
        self.overwrite(to, &bytes);
        self.places[to] = self.places[from].clone();
    }

    /// Exchanges two pages.
    pub fn swap(&mut self, one: usize, other: usize) {
        let (first, second) = (self.bytes[self.span(one)].to_vec(), self.bytes[self.span(other)].to_vec());
        let (of_one, of_other) = (self.places[one].clone(), self.places[other].clone());
        self.overwrite(one, &second);
        self.overwrite(other, &first);
        (self.places[one], self.places[other]) = (of_other, of_one);
    }

    /// Overwrites bytes within the page at `at`.
    pub fn write(&mut self, at: usize, within: usize, with: &[u8]) {
        let start = at * self.page_size + within;
        let end = (start + with.len()).min(self.bytes.len());
        if start < end {
            self.bytes[start..end].copy_from_slice(&with[..end - start]);
            self.places[at].spoiled.push(within..within + with.len());
        }
    }

    /// Turns a bit within the page at `at`.
    pub fn flip(&mut self, at: usize, within: usize, bit: u32) {
        if let Some(byte) = self.bytes.get(at * self.page_size + within) {
            let turned = byte ^ (1 << bit);
            self.write(at, within, &[turned]);
        }
    }

    /// Turns a bit within the page at `at` of a number which all else in that page tells.
    pub fn turn(&mut self, at: usize, within: usize, bit: u32) {
        if let Some(byte) = self.bytes.get_mut(at * self.page_size + within) {
            *byte ^= 1 << bit;
            self.places[at].told.push(within);
        }
    }

    /// Appends a page that is none of a file's; returns where it lies.
    pub fn append(&mut self, page: &[u8]) -> usize {
        let at = self.places.len();
        self.bytes.resize((at + 1) * self.page_size, 0);
        self.places.push(Place::default());
        self.overwrite(at, page);
        at
    }

    /// Ends the file at this byte.
    pub fn cut(&mut self, len_bytes: usize) {
        self.bytes.truncate(len_bytes);
        self.places.truncate(self.bytes.len().div_ceil(self.page_size));
    }

    /// Takes so many pages off the start of the file.
    pub fn behead(&mut self, pages: usize) {
        let pages = pages.min(self.places.len());
        self.bytes.drain(..(pages * self.page_size).min(self.bytes.len()));
        self.places.drain(..pages);
    }

    /// Whether bytes of a page of an undamaged file are what they were, if the page lies at `at` now.
    fn keeps(
        &self,
        at: usize,
        files: &[PlainFile<'_>],
        (number, page): Origin,
        within: &Range<usize>,
    ) -> bool {
        let Some(place) = self.places.get(at) else { return false };
        let Some(origin) = place.origin else { return false };
        // Of two files most pages are the same.
        let is_it = origin == (number, page) || files[origin.0].page(origin.1) == files[number].page(page);
        let is_spoiled = place.spoiled.iter().any(|span| span.start < within.end && within.start < span.end);
        is_it && !is_spoiled && at * self.page_size + within.end <= self.bytes.len()
    }

    /// Whether bytes of an undamaged file, from the start of its page `page` on, are there from the page at `at` on.
    #[must_use]
    pub fn keeps_span(
        &self,
        at: usize,
        files: &[PlainFile<'_>],
        (number, page): Origin,
        span: &Range<usize>,
    ) -> bool {
        let pages = span.start / self.page_size
            ..span.end.div_ceil(self.page_size).max(span.start / self.page_size + 1);
        pages.into_iter().all(|number_of_page| {
            let start = number_of_page * self.page_size;
            let within = span.start.saturating_sub(start)..(span.end - start).min(self.page_size);
            self.keeps(at + number_of_page, files, (number, page + number_of_page), &within)
        })
    }

    /// Panics when the book does not tell what the bytes are.
    #[track_caller]
    pub fn assert_booked(&self, files: &[PlainFile<'_>]) {
        let file = self.file();
        assert_eq!(self.places.len(), file.pages());
        for (at, place) in self.places.iter().enumerate() {
            let Some((number, page)) = place.origin else { continue };
            let (is, was) = (file.page(at), files[number].page(page));
            for (offset, (is, was)) in is.iter().zip(was).enumerate() {
                let is_spoiled =
                    place.spoiled.iter().any(|span| span.contains(&offset)) || place.told.contains(&offset);
                assert!(
                    is_spoiled || is == was,
                    "page at {at}, byte {offset}: not what page {page} of file {number} has"
                );
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: usize = 1024;

    fn pages(count: u8) -> Vec<u8> {
        (0..count).flat_map(|page| vec![page + 1; PAGE]).collect()
    }

    #[test]
    fn the_book_follows_every_page() {
        let (bytes, earlier) = (pages(8), pages(9));
        let files = [PlainFile::with_page_size(&bytes, PAGE), PlainFile::with_page_size(&earlier, PAGE)];
        let mut rng = Rng::seeded_by("book");
        let mut damaged = Damaged::new(bytes.clone(), PAGE);
        damaged.fill(1, Fill::Noise, &mut rng);
        damaged.swap(2, 3);
        damaged.duplicate(4, 5);
        damaged.write(6, 10, &[0xff; 3]);
        damaged.flip(6, 15, 7);
        damaged.turn(6, 400, 1);
        damaged.replace(0, 1, files[1], 8);
        let end = damaged.append(&[9; 5]);
        damaged.assert_booked(&files);
        let origins: Vec<_> = damaged.places().iter().map(|place| place.origin).collect();
        let own = |page| Some((0, page));
        assert_eq!(origins, [Some((1, 8)), None, own(3), own(2), own(4), own(4), own(6), own(7), None]);
        assert_eq!((end, damaged.bytes().len()), (8, 9 * PAGE));
        assert_eq!((damaged.find(2), damaged.find(4), damaged.find(5)), (Some(3), Some(4), None));

        // A run of two pages is there where both follow each other; the earlier file's page 6 is the same as ours.
        assert!(damaged.keeps_span(6, &files, (0, 6), &(20..PAGE + 7)));
        assert!(damaged.keeps_span(6, &files, (1, 6), &(20..1000)));
        assert!(!damaged.keeps_span(6, &files, (0, 6), &(0..11)));
        assert!(!damaged.keeps_span(6, &files, (0, 6), &(15..16)));
        assert!(!damaged.keeps_span(3, &files, (0, 2), &(0..PAGE + 1)));
        assert!(damaged.keeps_span(3, &files, (0, 2), &(0..PAGE)));
        assert!(!damaged.keeps_span(8, &files, (0, 8), &(0..1)));

        damaged.cut(7 * PAGE + 100);
        damaged.behead(2);
        damaged.assert_booked(&files);
        assert_eq!((damaged.places().len(), damaged.find(7)), (6, Some(5)));
        assert!(damaged.keeps_span(5, &files, (0, 7), &(0..100)));
        assert!(!damaged.keeps_span(5, &files, (0, 7), &(0..101)));
    }

    #[test]
    #[should_panic(expected = "not what page 1 of file 0 has")]
    fn a_book_that_lies_is_noticed() {
        let bytes = pages(2);
        let mut damaged = Damaged::new(bytes.clone(), PAGE);
        damaged.bytes[PAGE + 1] = 9;
        damaged.assert_booked(&[PlainFile::with_page_size(&bytes, PAGE)]);
    }
}
