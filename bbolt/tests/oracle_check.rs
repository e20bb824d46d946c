//! Our check beside the real bbolt tool's, on files in which single fields were changed at random.
#![allow(clippy::unwrap_used, reason = "a helper of a test may panic as the test itself may")]

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

use bbolt::{Db, Severity, check};
use testdata::bbolt_damage::{Base, Image, MetaField, PAGE};
use testdata::damage::Rng;
use testdata::oracle::{Bbolt, Run};

/// What our check calls an error and bbolt's passes (FORMATS A.8): what it does not look at.
const NOT_BBOLTS: [&str; 17] = [
    "BBOLT-BUCKET-IN-INLINE",
    "BBOLT-BUCKET-LENGTH",
    "BBOLT-ELEMENT-BOUNDS",
    "BBOLT-ELEMENT-COUNT",
    "BBOLT-EMPTY-BRANCH",
    "BBOLT-EMPTY-KEY",
    "BBOLT-EMPTY-LEAF",
    "BBOLT-FREE-OUT-OF-BOUNDS",
    "BBOLT-INLINE-TYPE",
    "BBOLT-LONE-CHILD",
    "BBOLT-META-RANGE",
    "BBOLT-SHORT-FILE",
    "BBOLT-TOP-LEVEL-VALUE",
    "BBOLT-UNEVEN-DEPTH",
    // Its comparison lets the page at the high-water mark pass, and a freelist's overflow is not held against the file.
    "BBOLT-OUT-OF-BOUNDS",
    // A page listed as free that is another one's overflow; keys of inline buckets.
    "BBOLT-REACHABLE-FREED",
    "BBOLT-KEY-ORDER",
];

/// Changes one field and says which.
fn operate(image: &mut Image, rng: &mut Rng, pages: u64) -> String {
    let page = 2 + rng.below(pages - 2);
    let count = u64::from(image.count(page)).clamp(1, 10);
    let index = usize::try_from(rng.below(count)).unwrap();
    let small = rng.below(pages + 4);
    match rng.below(13) {
        0 => {
            image.set_id(page, small);
            format!("id of {page}: {small}")
        }
        1 => {
            let flags = *rng.pick(&[0, 1, 2, 3, 4, 0x10]);
            image.set_flags(page, flags);
            format!("flags of {page}: {flags}")
        }
        2 => {
            let count = *rng.pick(&[0, 1, 2, 3, 7, 300, 0xffff]);
            image.set_count(page, count);
            format!("count of {page}: {count}")
        }
        3 => {
            let overflow = *rng.pick(&[0, 1, 2, 9, 300]);
            image.set_overflow(page, overflow);
            format!("overflow of {page}: {overflow}")
        }
        4 | 5 => {
            image.set_child(page, index, small);
            format!("child {index} of {page}: {small}")
        }
        6 => {
            let (word, value) = (usize::try_from(rng.below(4)).unwrap(), *rng.pick(&[0, 1, 16, 100, 5000]));
            image.set_word(page, index, word, value);
            format!("word {word} of element {index} of {page}: {value}")
        }
        7 | 8 => {
            let at = usize::try_from(rng.below(PAGE as u64)).unwrap();
            let byte = u8::try_from(rng.below(256)).unwrap();
            image.put(page, at, &[byte]);
            format!("byte {at} of {page}: {byte}")
        }
        9 => {
            image.set_free(208, usize::try_from(rng.below(30)).unwrap(), small);
            format!("a free page: {small}")
        }
        10 => {
            let field = *rng.pick(&[MetaField::Root, MetaField::Freelist, MetaField::HighWaterMark]);
            image.set_meta(0, field, small);
            format!("{field:?} of meta 0: {small}")
        }
        11 => {
            image.zero(page);
            format!("page {page} zeroed")
        }
        _ => {
            let other = 2 + rng.below(pages - 2);
            image.swap(page, other);
            format!("pages {page} and {other} swapped")
        }
    }
}

/// The real tool on `file`: whether it is content. A cycle keeps it busy until its memory or time is gone.
fn bbolt_is_content(tool: &Bbolt, file: &str) -> (bool, String) {
    let command = tool.command();
    let mut around = Command::new("sh");
    around.args(["-c", "ulimit -v 3000000; ulimit -c 0; exec timeout -s KILL 2 \"$@\"", "sh"]);
    around.arg(command.get_program()).args(["check", file]);
    let run = Run::to_end(around);
    let said: String = run.stdout.chars().take(200).chain(run.stderr.chars().take(200)).collect();
    (run.status.success(), said)
}

/// About 10 s.
#[test]
#[ignore = "needs real bbolt: scripts/test.sh runs it"]
fn oracle_our_check_and_bbolts_agree_after_random_surgery() {
    let scratch = tempfile::tempdir().unwrap();
    let file = scratch.path().join("db");
    let tool = Bbolt::find();
    let sound = Base::Library.bytes();
    let pages = (sound.len() / PAGE) as u64;
    let mut rng = Rng::seeded_by("surgery");
    let (mut wrong, mut broken) = (Vec::new(), 0);
    for number in 0..250 {
        let mut image = Image::new(sound.clone());
        let what = operate(&mut image, &mut rng, pages);
        let bytes = image.into_bytes();
        fs::write(&file, &bytes).unwrap();
        let ours: Option<BTreeSet<&str>> = Db::from_source(bytes.as_slice()).ok().map(|db| {
            let report = check(&db, &());
            let errors = report.findings.iter().filter(|found| found.severity == Severity::Error);
            errors.map(|found| found.fault.code()).collect()
        });
        let may_be_content =
            ours.as_ref().is_some_and(|codes| codes.iter().all(|code| NOT_BBOLTS.contains(code)));
        let must_be_content = ours.as_ref().is_some_and(BTreeSet::is_empty);
        let (mut content, mut said) = bbolt_is_content(&tool, file.to_str().unwrap());
        // It checks beside its main thread, and can end with OK before the check has come to its panic.
        for _ in 0..20 {
            if !content || may_be_content {
                break;
            }
            (content, said) = bbolt_is_content(&tool, file.to_str().unwrap());
        }
        broken += usize::from(!content);
        let agree = if content { may_be_content } else { !must_be_content };
        if !agree {
            wrong.push(format!("{number}, {what}: ours {ours:?}, bbolt content: {content}: {said}"));
        }
    }
    assert!(wrong.is_empty(), "{} files:\n{}", wrong.len(), wrong.join("\n"));
    assert!((50..240).contains(&broken), "{broken} of 250 files are broken: the surgery is not what it was");
}
