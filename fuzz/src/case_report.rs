//! The report on a case: whatever is told in it, it is a whole document, and nothing of it is markup.

use casefile::Command;
use casefile::report::{Bin, CaseFacts, Data, Examined, Pair, Prefix, Redact, Sample, Seal, Version, html};
use casefile::rows::Diff;
use casefile::source::{
    Checked, FindingRow, Identity, KeySpace, LogSummary, MemberRow, PageMap, PageRun, PageUse, SnapRow,
    Source, SourceFile, TermRun, Verdict,
};

/// Elements that a report has, and those of them that are not closed.
const ELEMENTS: &[&str] = &[
    "!DOCTYPE",
    "meta",
    "br",
    "rect",
    "line",
    "html",
    "head",
    "title",
    "style",
    "body",
    "header",
    "nav",
    "main",
    "footer",
    "section",
    "figure",
    "figcaption",
    "table",
    "caption",
    "thead",
    "tbody",
    "tr",
    "th",
    "td",
    "div",
    "span",
    "p",
    "h1",
    "h2",
    "h3",
    "ul",
    "ol",
    "li",
    "dl",
    "dt",
    "dd",
    "a",
    "b",
    "i",
    "code",
    "small",
    "svg",
    "defs",
    "pattern",
    "g",
    "text",
    "path",
    "em",
    "strong",
    "use",
    "desc",
];
const VOID: [&str; 5] = ["!DOCTYPE", "meta", "br", "rect", "line"];

/// Holds a report against the form that every report has: known elements, each closed by its own end, attributes in quotes, no character
/// that is unfit for a document.
pub(crate) fn assert_whole(report: &str) {
    assert!(report.chars().all(|c| c == '\n' || !c.is_control()), "a control character");
    assert!(!report.contains(['\u{202e}', '\u{2066}', '\u{feff}']), "a character that turns the direction");
    let (head, rest) = report.split_once("<style>").unwrap_or_else(|| panic!("no style"));
    let (_, tail) = rest.split_once("</style>").unwrap_or_else(|| panic!("a style without an end"));
    let mut open: Vec<&str> = Vec::new();
    for part in [head, tail] {
        let mut rest = part;
        while let Some((text, tag)) = rest.split_once('<') {
            assert!(!text.contains('>'), "an end of a tag in text: {text:?}");
            let (tag, after) = tag.split_once('>').unwrap_or_else(|| panic!("a tag without an end"));
            rest = after;
            let name = tag.trim_start_matches('/').split([' ', '/', '\n']).next().unwrap_or_default();
            assert!(ELEMENTS.contains(&name), "an element {name:?}: <{tag}>");
            let quotes = tag.matches('"').count();
            assert!(quotes % 2 == 0 && (!tag.contains('\'') || tag.starts_with("meta ")), "<{tag}>");
            for outside in tag.split('"').step_by(2) {
                assert!(
                    outside.chars().all(|c| c.is_ascii_alphanumeric() || " =-!/:".contains(c)),
                    "outside of quotes in <{tag}>"
                );
                assert!(!outside.trim_start().starts_with("on"), "<{tag}>");
            }
            if tag.starts_with('/') {
                assert_eq!(open.pop(), Some(name), "after {open:?}");
            } else if !VOID.contains(&name) && !tag.ends_with('/') {
                open.push(name);
            }
        }
    }
    assert!(open.is_empty(), "{open:?} without an end");
}

/// Makes everything that a report can be about out of the input.
pub(crate) fn any(input: &[u8]) {
    let Some((how, rest)) = input.split_first() else { return };
    let mut from = From(rest);
    let data = from.data();
    let redact = [None, Some(Redact::Secrets), Some(Redact::Values), Some(Redact::Keys)];
    let report = html(&data, redact[usize::from(how % 4)]);
    assert_whole(&report);
}

/// What is left of the input.
struct From<'i>(&'i [u8]);

impl From<'_> {
    fn byte(&mut self) -> u8 {
        let Some((byte, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *byte
    }

    fn flag(&mut self) -> bool {
        self.byte() & 1 == 1
    }

    fn number(&mut self) -> u64 {
        match self.byte() {
            255 => u64::MAX,
            254 => 1 << 63,
            253 => u64::from_le_bytes(std::array::from_fn(|_| self.byte())),
            252 => u64::from(u16::from_le_bytes([self.byte(), self.byte()])),
            byte => byte.into(),
        }
    }

    fn signed(&mut self) -> i64 {
        self.number().cast_signed()
    }

    fn some<T>(&mut self, of: impl FnOnce(&mut Self) -> T) -> Option<T> {
        self.flag().then(|| of(self))
    }

    fn bytes(&mut self) -> Vec<u8> {
        let len = usize::from(self.byte());
        let (taken, rest) = self.0.split_at(len.min(self.0.len()));
        self.0 = rest;
        // A few bytes are enough for much.
        if len > 250 { taken.repeat(40) } else { taken.to_vec() }
    }

    fn text(&mut self) -> String {
        String::from_utf8_lossy(&self.bytes()).into_owned()
    }

    fn all<T>(&mut self, mut of: impl FnMut(&mut Self) -> T) -> Vec<T> {
        let count = self.byte() % 6;
        let mut all = Vec::new();
        for _ in 0..count {
            if self.0.is_empty() {
                break;
            }
            all.push(of(self));
        }
        all
    }

    fn data(&mut self) -> Data {
        let case = CaseFacts {
            name: self.text(),
            schema: 1,
            tool: self.text(),
            commands: self.all(|from| Command {
                line: from.text(),
                tool: from.text(),
                added: from.all(Self::text),
            }),
            seal: self.some(|from| Seal {
                sha256: from.text(),
                state: if from.flag() { casefile::SealState::Holds } else { casefile::SealState::Broken },
            }),
        };
        Data { case, sources: self.all(Self::examined), partings: self.all(Self::pair) }
    }

    fn examined(&mut self) -> Examined {
        let source = self.source();
        let pages = self.all(|from| PageRun {
            first: from.number(),
            pages: from.number(),
            usage: match from.byte() % 8 {
                0 => PageUse::Meta,
                1 => PageUse::Freelist,
                2 => PageUse::Branch,
                3 => PageUse::Free,
                4 => PageUse::Beyond,
                5 => PageUse::Damaged,
                6 => PageUse::Unknown,
                _ => PageUse::Leaf(u32::from(from.byte())),
            },
        });
        let space = self.all(|from| {
            let below = from.all(Self::prefix);
            Prefix { below, ..from.prefix() }
        });
        let history =
            self.all(|from| Bin { first: from.signed(), last: from.signed(), records: from.number() });
        Examined { source, pages, space, history }
    }

    fn prefix(&mut self) -> Prefix {
        Prefix {
            name: self.text(),
            is_rest: self.flag(),
            live_keys: self.number(),
            live_bytes: self.number(),
            history_records: self.number(),
            history_bytes: self.number(),
            below: Vec::new(),
        }
    }

    fn pair(&mut self) -> Pair {
        let diff = Diff {
            from: self.signed(),
            to: self.signed(),
            same: self.number(),
            tail: self.number(),
            missing: self.number(),
            differs: self.number(),
            unreadable: self.number(),
            part: self.some(Self::signed),
            log_part: self.some(|from| (from.number(), from.number(), from.number())),
            log_common: self.some(|from| (from.number(), from.number())),
            clusters: self.some(|from| (from.number(), from.number())),
        };
        let samples = self.all(|from| Sample {
            main: from.signed(),
            sub: from.signed(),
            one: from.some(Self::version),
            other: from.some(Self::version),
        });
        Pair { one: self.text(), other: self.text(), diff, samples }
    }

    fn version(&mut self) -> Version {
        Version {
            key: self.bytes(),
            deleted: self.flag(),
            version: self.signed(),
            value_len: self.number(),
            value_hash: self.some(Self::text),
            value: self.some(Self::bytes),
            place: self.text(),
        }
    }

    fn source(&mut self) -> Source {
        let identity = Identity {
            member: self.some(Self::number),
            cluster: self.some(Self::number),
            name: self.some(Self::text),
            written_by: self.some(Self::text),
            cluster_version: self.some(Self::text),
        };
        let files = self.all(|from| SourceFile {
            path: from.text(),
            len_bytes: from.number(),
            sha256: from.text(),
            modified: (from.signed(), from.signed()),
            unpacked: from.some(|from| (from.number(), from.text())),
            unreadable: from.some(Self::text),
        });
        Source {
            number: 0,
            name: self.text(),
            path: self.text(),
            wal_dir: self.some(Self::text),
            what: self.text(),
            files,
            links: self.all(Self::text),
            database: self.some(|from| usize::from(from.byte() % 4)),
            identity,
            key_space: self.some(Self::key_space),
            log: self.some(Self::log),
            pages: self.some(|from| PageMap {
                page_size: u32::from(from.byte()) << 8,
                pages: from.number(),
                buckets: from.all(Self::text),
                free_pages: from.number(),
                damaged_pages: from.number(),
            }),
            members: self.all(|from| MemberRow {
                id: from.number(),
                name: from.text(),
                peer_urls: from.all(Self::text),
                client_urls: from.all(Self::text),
                is_learner: from.flag(),
                in_raft: from.some(Self::flag),
                in_database: from.flag(),
            }),
            snaps: self.all(|from| SnapRow {
                file: usize::from(from.byte()),
                kind: if from.flag() { "snap".to_owned() } else { from.text() },
                index: from.some(Self::number),
                term: from.some(Self::number),
                fault: from.some(Self::text),
            }),
            verdict: Verdict {
                outlook: if self.flag() { "needs-repair".to_owned() } else { self.text() },
                reasons: self.all(Self::text),
                release: self.text(),
                next: self.text(),
                purpose: self.text(),
            },
            checked: self.all(|from| Checked { what: from.text(), done: from.flag(), detail: from.text() }),
            findings: self.all(|from| FindingRow {
                code: if from.flag() { "BBOLT-WRONG-ID".to_owned() } else { from.text() },
                severity: if from.flag() { "error".to_owned() } else { from.text() },
                message: from.text(),
                file: from.some(|from| usize::from(from.byte())),
                offset: from.some(Self::number),
            }),
            more_findings: self.number(),
            has_values: self.flag(),
            examiner: self.some(Self::text),
            note: self.some(Self::text),
        }
    }

    fn key_space(&mut self) -> KeySpace {
        KeySpace {
            records: self.number(),
            keys: self.number(),
            live_keys: self.number(),
            value_bytes: self.number(),
            first: self.signed(),
            last: self.signed(),
            revision: self.signed(),
            compacted: self.some(Self::signed),
            consistent_index: self.number(),
            term: self.some(Self::number),
            unreadable: self.number(),
            holes: self.all(|from| (from.signed(), from.some(Self::signed))),
        }
    }

    fn log(&mut self) -> LogSummary {
        LogSummary {
            entries: self.number(),
            first: self.some(Self::number),
            last: self.some(Self::number),
            commit: self.number(),
            term: self.number(),
            terms: self.all(|from| TermRun {
                first: from.number(),
                last: from.number(),
                term: from.number(),
            }),
            snapshots: self.all(|from| (from.number(), from.number())),
            segments: self.all(|from| usize::from(from.byte())),
        }
    }
}
