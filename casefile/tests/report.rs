//! Reports on real files: what a report says is what the files hold, and what it is to leave out is nowhere in it.
#![allow(clippy::unwrap_used, reason = "helpers of tests, which clippy does not see as tests")]

#[path = "../../snapshot/tests/common/space.rs"]
mod space;

use std::fmt::Write as _;
use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use casefile::report::{Redact, gather, html};
use casefile::{AddOptions, Case, add};
use snapshot::mvcc::{KeyValue, Release, Revision};
use space::Space;

fn new_case(dir: &Path) -> PathBuf {
    let path = dir.join("evidence.case");
    Case::create(&path, "etcd-rescue case new evidence.case").unwrap();
    path
}

fn put(case: &Path, name: &str, source: &Path, options: &AddOptions) {
    let before = testdata::fingerprint(source);
    add(case, name, source, options, &()).unwrap();
    assert_eq!(testdata::fingerprint(source), before);
}

fn report(case: &Path, redact: Option<Redact>) -> String {
    html(&gather(&Case::open(case).unwrap(), &()).unwrap(), redact)
}

/// The same database twice, of which the second has lost a leaf of its records.
#[test]
fn what_lies_below_damaged_pages_is_no_parting() {
    let dir = tempfile::tempdir().unwrap();
    let mut space = Space::default();
    for at in 0..600 {
        space.put(&format!("/registry/pods/{at}"), &"v".repeat(100));
    }
    let whole = space.file();
    let leaf =
        |page: &&[u8]| page[8..10] == [2, 0] && page.windows(19).any(|at| at == b"/registry/pods/300\x10");
    let damaged = whole.chunks(4096).position(|page| leaf(&page)).unwrap();
    let mut other = whole.clone();
    other[damaged * 4096..][..4096].fill(0);
    let case = new_case(dir.path());
    for (name, bytes) in [("whole", &whole), ("damaged", &other)] {
        let file = dir.path().join(name);
        fs::write(&file, bytes).unwrap();
        put(&case, name, &file, &AddOptions::default());
    }
    let opened = Case::open(&case).unwrap();
    for (one, other) in [("whole", "damaged"), ("damaged", "whole")] {
        let (one, other) = (opened.source(one).unwrap(), opened.source(other).unwrap());
        let diff = opened.diff(one, other, &mut |_| ControlFlow::Continue(())).unwrap();
        assert_eq!((diff.part, diff.missing, diff.differs, diff.tail), (None, 0, 0, 0));
        assert!(diff.unreadable > 5 && diff.same + diff.unreadable == 600, "{diff:?}");
    }
    let report = report(&case, None);
    assert!(report.contains("the same where readable"), "{report}");
    assert!(report.contains("<b>0</b><span>pairs of sources with different histories"), "{report}");
    assert!(!report.contains("not there"), "{report}");
    assert!(report.contains(&format!("<td class=\"num\" data-head=\"First page\"><div>{damaged}</div>")));
}

/// What is planted: names of keys, values, and what somebody typed.
struct Planted {
    dir: tempfile::TempDir,
    case: PathBuf,
}

const KEYS: [&str; 3] = ["zebra", "quagga", "okapi"];
const SECRET_VALUE: &str = "ibex-in-the-hills";
const PLAIN_VALUE: &str = "gnu-on-the-plain";
const TYPED: &str = "lost was /herd/okapi-7";

/// Two databases that part in a secret and in another key, and of which one has records that are none; values are kept.
fn planted() -> Planted {
    let dir = tempfile::tempdir().unwrap();
    let case = new_case(dir.path());
    for name in ["one", "other"] {
        let mut space = Space::default();
        for at in 0..40 {
            space.put(&format!("/herd/zebra/{at}"), PLAIN_VALUE);
        }
        space.delete("/herd/zebra/3");
        space.compact(20, Release::NEWEST);
        space.put("/herd/secrets/quagga", &format!("{SECRET_VALUE} {name}"));
        space.put("/herd/okapi-7", &format!("{PLAIN_VALUE} {name}"));
        if name == "other" {
            // A record that says it is another revision, and one that ends within its value.
            let kv = |mod_revision| KeyValue {
                key: b"/herd/okapi-8",
                value: SECRET_VALUE.as_bytes(),
                create_revision: 1,
                mod_revision,
                version: 1,
                lease: 0,
            };
            for (main, said, cut) in [(90, 12, 0), (91, 91, 4)] {
                let mut record = Vec::new();
                kv(said).encode(&mut record);
                record.truncate(record.len() - cut);
                space.records.insert(Revision { main, sub: 0, tombstone: false }.encode(), record);
            }
        }
        let file = dir.path().join(name);
        fs::write(&file, space.file()).unwrap();
        let options = AddOptions {
            embed_values: true,
            note: Some(TYPED.to_owned()),
            command: format!("etcd-rescue case add evidence.case {name}={name} --note '{TYPED}'"),
            ..AddOptions::default()
        };
        put(&case, name, &file, &options);
    }
    Planted { dir, case }
}

/// Whether `report` has `word`, as it is or as somebody might have written it: escaped for an address, in hexadecimal, or in base64.
fn tells(report: &str, word: &str) -> bool {
    let hexadecimal: String = word.bytes().fold(String::new(), |mut out, byte| {
        write!(out, "{byte:02x}").unwrap();
        out
    });
    let escaped: String = word.bytes().fold(String::new(), |mut out, byte| {
        write!(out, "%{byte:02x}").unwrap();
        out
    });
    let lower = report.to_lowercase();
    let spaced = lower.replace(['\n', ' ', '\u{202f}'], "");
    let words = [word.replace('/', "%2f"), word.to_owned(), hexadecimal, escaped];
    words.iter().any(|word| lower.contains(word.as_str()) || spaced.contains(word.as_str()))
        || in_base64(report, word.as_bytes())
}

/// Whether `report` has `word` in base64, wherever in a longer text it may have stood.
fn in_base64(report: &str, word: &[u8]) -> bool {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    (0..3).any(|before| {
        let text = [&[0; 2][..before.min(2)], word].concat();
        let bits = |at: usize| {
            (0..6).fold(0, |digit, bit| {
                let at = at * 6 + bit;
                let byte = text.get(at / 8).copied().unwrap_or(0);
                digit << 1 | usize::from(byte >> (7 - at % 8) & 1)
            })
        };
        // Digits of which every bit is the word's.
        let digits = (before * 8).div_ceil(6)..text.len() * 8 / 6;
        let encoded: String = digits.map(|at| char::from(DIGITS[bits(at)])).collect();
        report.contains(&encoded)
    })
}

#[test]
fn what_is_looked_for_would_be_found() {
    for report in ["a ZEBRA b", "7a65627261", "%7A%65%62%72%61", "x emVicmE= y", "YXplYnJh", "YWF6ZWJyYQ=="] {
        assert!(tells(report, "zebra"), "{report}");
    }
    assert!(!tells("zebu, quaggas", "zebra"));
}

#[test]
fn what_is_left_out_of_a_report_is_nowhere_in_it() {
    let Planted { dir, case } = planted();
    let before = fs::read(&case).unwrap();
    let (secret_hash, plain_hash) = {
        let hash = |text: String| testdata::sha256_hex(text.as_bytes())[..32].to_owned();
        (hash(format!("{SECRET_VALUE} one")), hash(format!("{PLAIN_VALUE} one")))
    };
    let whole = report(&case, None);
    for word in KEYS.iter().chain(&[SECRET_VALUE, PLAIN_VALUE, &secret_hash, &plain_hash, TYPED]) {
        assert!(tells(&whole, word), "{word}");
    }
    let secrets = report(&case, Some(Redact::Secrets));
    assert!(!tells(&secrets, SECRET_VALUE) && !tells(&secrets, &secret_hash), "{secrets}");
    assert!(tells(&secrets, PLAIN_VALUE) && tells(&secrets, &plain_hash) && tells(&secrets, "quagga"));
    let values = report(&case, Some(Redact::Values));
    for word in [SECRET_VALUE, PLAIN_VALUE, &secret_hash, &plain_hash] {
        assert!(!tells(&values, word), "{word}: {values}");
    }
    assert!(KEYS.iter().all(|key| tells(&values, key)));
    let keys = report(&case, Some(Redact::Keys));
    let herd = ["/herd", "herd/", "herd"];
    for word in KEYS.iter().chain(&herd).chain(&[SECRET_VALUE, PLAIN_VALUE, &secret_hash, &plain_hash, TYPED])
    {
        assert!(!tells(&keys, word), "{word}: {keys}");
    }
    assert!(keys.contains("<code>etcd-rescue case add …</code>"), "{keys}");
    // What was examined is still told, and so is what is wrong with it.
    let file = testdata::sha256_hex(fs::read(dir.path().join("one")).unwrap());
    for report in [&secrets, &values, &keys] {
        assert!(report.contains(&file) && report.contains("ETCD-"));
    }
    assert_eq!(fs::read(&case).unwrap(), before, "a report changed the case");
}

/// Keys that are no text, that turn its direction, that are markup, and that are longer than a book.
#[test]
fn no_key_is_too_strange_for_a_report() {
    let dir = tempfile::tempdir().unwrap();
    let case = new_case(dir.path());
    let mut keys: Vec<Vec<u8>> = vec![
        b"\0\x01\x1b[31m\r\n\t".to_vec(),
        "\u{202e}gnp.exe\u{2066}\u{200b}\u{feff}".into(),
        b"<script>alert(1)</script><img src=x onerror=alert(1)>".to_vec(),
        b"%00%0a%3cscript%3e&amp;&#0;\"'`".to_vec(),
        b"\xff\xfe\xc3\x28/\xf0\x90\x80".to_vec(),
        b"</svg></style><!-- ]]>".to_vec(),
        b"////".to_vec(),
        Vec::new(),
    ];
    keys.extend((0u8..120).map(|at| [&[b'a' + at % 26], vec![at; 100_000].as_slice(), b"/x"].concat()));
    for name in ["one", "other"] {
        let mut space = Space::default();
        for key in &keys {
            let main = space.next();
            let value = name.as_bytes();
            let kv = KeyValue { key, value, create_revision: main, mod_revision: main, version: 1, lease: 0 };
            space.add(false, &kv);
        }
        let file = dir.path().join(name);
        fs::write(&file, space.file()).unwrap();
        put(&case, name, &file, &AddOptions { embed_values: true, ..AddOptions::default() });
    }
    for redact in [None, Some(Redact::Keys)] {
        let report = report(&case, redact);
        assert!(report.len() < 500_000, "{}", report.len());
        for bad in ["<script", "<img", "onerror=alert(1)>", "</svg></style", "<!-- "] {
            assert!(!report.contains(bad), "{bad}");
        }
        assert!(report.chars().all(|c| c == '\n' || !c.is_control()));
        assert!(!report.contains(['\u{202e}', '\u{2066}', '\u{200b}', '\u{feff}']));
        assert!(redact.is_some() || report.contains("(100003 bytes, SHA-256 "));
    }
}

/// The three members of a real cluster: hashes are those of the files, pages those that `bbolt stats` counts, ends those on record.
#[test]
fn a_report_on_three_members_says_what_is_known_of_them() {
    let dir = tempfile::tempdir().unwrap();
    testdata::unpack("3.5.30/cluster3/data.tar.zst", dir.path());
    let case = new_case(dir.path());
    for name in ["n1", "n2", "n3"] {
        put(&case, name, &dir.path().join(name), &AddOptions::default());
    }
    let told = report(&case, None);
    for name in ["n1", "n2", "n3"] {
        for file in ["member/snap/db", "member/wal/0000000000000000-0000000000000000.wal"] {
            let digest = testdata::sha256_hex(fs::read(dir.path().join(name).join(file)).unwrap());
            assert!(told.contains(&format!("<code>{digest}</code>")), "{name} {file}");
        }
    }
    let row = |head: &str, cells: [&str; 3]| {
        let cell =
            |(at, text): (usize, &&str)| format!("<td data-head=\"n{}\"><div>{text}</div></td>", at + 1);
        let cells: String = cells.iter().enumerate().map(cell).collect();
        assert!(told.contains(&format!("<th scope=\"row\">{head}</th>{cells}")), "{head}: {told}");
    };
    row("Last entry", ["4252 of term 3", "1810 of term 2", "4252 of term 3"]);
    row("Known to be committed", ["4251", "1809", "4251"]);
    row("Database at entry", ["4251", "1800", "4235"]);
    row("Last revision", ["4237", "1787", "4221"]);
    row("Keys in force", ["419"; 3]);
    // `bbolt stats` of n1: 3 branches, 184 leaves; the root is a leaf of its own, and the rest of 16 MB was never used.
    for (what, pages) in [("branches, and the root", "4"), ("bucket <code>key</code>, the key space", "184")]
    {
        let row =
            format!("<th scope=\"row\">{what}</th><td class=\"num\" data-head=\"Pages\"><div>{pages}</div>");
        assert!(told.contains(&row), "{what}: {told}");
    }
    assert!(told.contains("lie behind the high-water mark"));
}
