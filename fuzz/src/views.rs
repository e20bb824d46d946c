//! The views of a db: whatever the bytes are, they end, keep to their limit, and print lines that can be read.

use bbolt::PageFile;
use snapshot::views::{Form, IterateOptions, ScanOptions, Scanned, iterate, list, scan};

use crate::db::repair_metas;

/// Buckets iterated of one input; more only cost time.
const MOST_BUCKETS: usize = 12;

/// Lists, iterates and scans the file as it is, with its metas repaired, and at a page size of its own choice.
pub(crate) fn all(bytes: &[u8]) {
    let repaired = repair_metas(bytes);
    view(bytes, None);
    view(&repaired, None);
    view(bytes, Some(512));
}

fn view(bytes: &[u8], page_size: Option<u32>) {
    let Ok(pages) = PageFile::new(bytes, page_size) else { return };
    for form in [Form::Lines, Form::Json] {
        let mut out = Vec::new();
        let scanned = scanned_into(&pages, form, 0, &mut out);
        readable(form, &out);
        let mut some = Vec::new();
        let later = scanned_into(&pages, form, 2, &mut some);
        assert!(later.seen.pairs <= scanned.seen.pairs && some.len() <= out.len());
    }
    let Ok(names) = list(&pages) else { return };
    for name in names.names.iter().take(MOST_BUCKETS) {
        for form in [Form::Lines, Form::Json] {
            for decode in [false, true] {
                let mut counts = [0; 2];
                for (limit, count) in [0, 3].into_iter().zip(&mut counts) {
                    let options = IterateOptions { form, limit, decode, show_secrets: false };
                    let mut out = Vec::new();
                    // A name in the root bucket need not be that of a bucket.
                    let Ok(seen) = iterate(&pages, name, &options, &mut out, &()) else { continue };
                    assert!(limit == 0 || seen.pairs <= limit);
                    readable(form, &out);
                    *count = seen.pairs;
                }
                assert_eq!(counts[1], counts[0].min(3));
            }
        }
    }
}

/// Memory takes what is written to it, and nobody interrupts: a scan does not fail.
fn scanned_into(pages: &PageFile<&[u8]>, form: Form, start_revision: i64, out: &mut Vec<u8>) -> Scanned {
    match scan(pages, &ScanOptions { form, start_revision }, out, &()) {
        Ok(scanned) => scanned,
        Err(error) => panic!("{error}"),
    }
}

fn readable(form: Form, out: &[u8]) {
    let Ok(text) = std::str::from_utf8(out) else { panic!("what was printed is no text") };
    assert!(text.is_empty() || text.ends_with('\n'));
    if form == Form::Json {
        for line in text.lines() {
            serde_json::from_str::<serde_json::Value>(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        }
    }
}
