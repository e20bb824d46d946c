//! Salvage of whatever the bytes are.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use bbolt::{Db, check};
use snapshot::mvcc::KeyValue;
use snapshot::salvage::{Plan, SalvageOptions, Salvaged, State, Trust, WriteOptions, gather_bytes, write};

use crate::db::repair_metas;

/// Salvages a file, as it is and with the metas' checksums set right. Of the first byte two bits choose the options, and one gives
/// the first half of the file as an older one beside it.
pub(crate) fn any(bytes: &[u8]) {
    let Some((flags, file)) = bytes.split_first() else { return };
    of(*flags, file);
    of(*flags, &repair_metas(file));
}

fn of(flags: u8, file: &[u8]) {
    let mut files = vec![file.to_vec()];
    if flags & 4 != 0 {
        files.push(file[..file.len() / 2].to_vec());
    }
    let options = SalvageOptions {
        page_size: (flags & 1 != 0).then_some(1024),
        include_compacted: flags & 2 != 0,
        ..SalvageOptions::default()
    };
    let evidence = match gather_bytes(files.clone(), &options, &()) {
        Ok(evidence) => evidence,
        Err(error) => {
            assert!(!error.to_string().is_empty());
            return;
        }
    };
    let plan = match evidence.plan(&()) {
        Ok(plan) => plan,
        Err(error) => panic!("{error}"),
    };
    let ways = plan.ways();
    assert!(ways > 0, "no way out, and no word why");
    for way in 1..=ways {
        told(&plan, way, &files);
    }
    written(&plan, &files);
}

/// What is told of a way holds together, and every value stands in the input, at the place that is named.
fn told(plan: &Plan<'_>, way: usize, files: &[Vec<u8>]) {
    let (mut records, mut bytes) = ([0_u64; 3], 0_u64);
    let mut last = None;
    let mut each = |found: &Salvaged<'_>| {
        let Salvaged { revision, value, trust, .. } = *found;
        let at = (revision.main, revision.sub);
        assert!(last < Some(at), "{last:?} before {at:?}");
        last = Some(at);
        assert!(KeyValue::decode(value).is_ok(), "{at:?} is no record");
        let mut equal = BTreeSet::new();
        for copy in found.copies {
            let start = usize::try_from(copy.offset).unwrap_or(usize::MAX);
            let there = files[usize::from(copy.source)].get(start..).unwrap_or_default();
            assert!(there.starts_with(copy.value), "{at:?} is not at {start:#x}");
            if copy.value == value && copy.state == State::Whole {
                equal.insert((copy.page, start));
            }
        }
        let is_there = found.copies.iter().any(|copy| copy.value == value);
        assert!(is_there, "{at:?} is not in the input");
        // Of one page there may be copies in two files, and they are one copy.
        let pages: BTreeSet<u64> = equal.iter().map(|(page, _)| *page).collect();
        assert!(trust != Trust::Confirmed || pages.len() > 1, "{at:?} is confirmed by {equal:?}");
        records[trust as usize] += 1;
        bytes += value.len() as u64 + 17;
        ControlFlow::Continue(())
    };
    if let Err(error) = plan.records(way, &(), &mut each) {
        panic!("{error}");
    }
    let given: u64 = files.iter().map(|file| file.len() as u64).sum();
    assert!(bytes <= given, "{bytes} bytes of records out of {given}");
    let report = match plan.report(way, &()) {
        Ok(report) => report,
        Err(error) => panic!("{error}"),
    };
    let account = &report.account;
    assert_eq!([account.suspect, account.single, account.confirmed], records, "{way}: {account:?}");
    assert_eq!(account.records, records.iter().sum::<u64>(), "{way}: {account:?}");
    assert!(!account.is_complete() || report.ways[way - 1].loses.is_none(), "{account:?}");
}

/// What the first way writes is sound, and holds as many records as were told.
fn written(plan: &Plan<'_>, files: &[Vec<u8>]) {
    let Ok(dir) = tempfile::tempdir() else { return };
    let output = dir.path().join("out.db");
    let options = WriteOptions { output: Some(output.clone()), accept_loss: true, owner: None };
    let report = match write(plan, 1, &options, &()) {
        Ok(report) => report,
        Err(error) => {
            assert!(!output.exists(), "{error}");
            return;
        }
    };
    let Ok(bytes) = std::fs::read(&output) else { panic!("nothing was written") };
    let db = match Db::from_source(bytes.as_slice()) {
        Ok(db) => db,
        Err(error) => panic!("{error}"),
    };
    let checked = check(&db, &());
    assert!(checked.findings.is_empty() && checked.is_sound(), "{:?}", checked.findings);
    let output = report.output.as_ref();
    assert_eq!(output.map(|output| output.records), Some(report.account.records));
    assert!(files.iter().all(|file| !file.is_empty()) || report.account.records == 0);
}
