//! Whatever shows a bbolt file, on any bytes.

use std::collections::BTreeSet;
use std::io::{self, ErrorKind, Write};

use bbolt::check::Severity;
use bbolt::render::bytes::{ByteFormat, FORMAT_NAMES};
use bbolt::render::keys::{self, KeyOptions};
use bbolt::render::listing::{Listing, Marks};
use bbolt::render::map::{Map, MapOptions};
use bbolt::render::page::{self, PageOptions};
use bbolt::render::{hexdump, inspect};
use bbolt::survey::{Standings, SurveyOptions, survey};
use bbolt::{Bucket, Db, PageFile, PageId, Stats, check};

/// Bytes of text after which enough was seen: elements that overlap make much of little.
const ENOUGH_BYTES: usize = 1 << 20;
/// Pages shown one by one.
const ENOUGH_PAGES: u64 = 64;

/// Takes [`ENOUGH_BYTES`] and no more.
struct Sink(usize);

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 = self.0.checked_sub(bytes.len()).ok_or(ErrorKind::WriteZero)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Pages, keys, values, statistics and pictures of a file, with and without its metas.
pub(crate) fn show(bytes: &[u8]) {
    pages(bytes, None);
    pages(bytes, Some(512));
    tree(bytes);
    tree(&crate::db::repair_metas(bytes));
}

fn pages(bytes: &[u8], page_size: Option<u32>) {
    let Ok(pages) = PageFile::new(bytes, page_size) else { return };
    for id in (0..pages.page_count().min(ENOUGH_PAGES)).chain([u64::MAX]).map(PageId) {
        let _ = (pages.header(id), pages.node(id), pages.whole(id));
        for (json, misnamed) in [(false, false), (false, true), (true, true)] {
            let options = PageOptions { json, format: ByteFormat::Auto, misnamed };
            let _ = page::write(&mut Sink(ENOUGH_BYTES), &pages, id, options);
        }
        if let Ok(first) = pages.first(id) {
            let _ = hexdump::write(&mut Sink(ENOUGH_BYTES), &first, pages.offset_of(id));
        }
    }
    list(&pages, None);
}

fn list(pages: &PageFile<&[u8]>, standings: Option<&Standings>) {
    let marks = Marks::from([(PageId(2), vec!["BBOLT-WRONG-ID"])]);
    let listing = Listing::new(pages, standings, &marks);
    for json in [false, true] {
        let _ = listing.write(json, &mut Sink(ENOUGH_BYTES), &());
    }
    let map = Map::new(&listing, &BTreeSet::new(), MapOptions { width: 20, most_lines: 3, colour: true });
    assert_eq!(map.counts.iter().sum::<u64>(), listing.count(), "every page is of one kind");
    let _ = map.write(&mut Sink(ENOUGH_BYTES), true);
}

fn tree(bytes: &[u8]) {
    let Ok(db) = Db::from_source(bytes) else { return };
    let options = SurveyOptions { list_inline: true, ..SurveyOptions::default() };
    let Ok(survey) = survey(&db, &options, &()) else { return };
    let findings = check(&db, &()).findings;
    let sound = findings.iter().all(|finding| finding.severity != Severity::Error);
    assert!(!sound || survey.is_whole, "the check is content with a file that cannot be surveyed");
    assert!(!Stats::new(&db, &survey).to_string().is_empty());
    for one_line in [false, true] {
        let _ = inspect::write(&mut Sink(ENOUGH_BYTES), &db, &survey, one_line);
    }
    if let Ok(pages) = PageFile::new(bytes, Some(db.page_size())) {
        list(&pages, Some(&Standings::new(&db, survey)));
    }
    bucket(&db.root());
    let mut names = db.root().cursor();
    while let Ok(Some(item)) = names.next() {
        let name = item.key.to_vec();
        let _ = keys::find_bucket(&db.root(), &name, &());
        if let Ok(Some(inner)) = names.bucket() {
            bucket(&inner);
        }
    }
}

fn bucket(bucket: &Bucket<'_, &[u8]>) {
    for (_, format) in FORMAT_NAMES {
        for json in [false, true] {
            let _ = keys::write(bucket, KeyOptions { json, format }, &mut Sink(ENOUGH_BYTES), &());
        }
    }
    let _ = (bucket.get(b"k"), keys::find(bucket, b"k", &()));
}
