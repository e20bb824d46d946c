//! Every code there is, with what is behind it and what to do: the text of `verify --explain` and of `docs/findings.md`.

mod bbolt;
mod cluster;
mod etcd;
mod salvage;
mod snap;
mod wal;

use std::fmt::Write as _;

/// What is to be known of one code. The texts are whole sentences of Markdown, each readable alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct Entry {
    /// The code, which does not change between releases.
    pub code: &'static str,
    /// What was found, in a few words.
    pub title: &'static str,
    /// How data comes to be so.
    pub cause: &'static str,
    /// What a server does with it.
    pub consequence: &'static str,
    /// What to do.
    pub remedy: &'static str,
}

/// Codes that belong together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Section {
    /// Its headline.
    pub title: &'static str,
    /// What is to be known of all of them; may be empty.
    pub intro: &'static str,
    /// The codes.
    pub entries: &'static [Entry],
}

/// All codes with one beginning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Family {
    /// What its codes begin with.
    pub prefix: &'static str,
    /// What its codes are about.
    pub title: &'static str,
    /// What is to be known of all of them.
    pub intro: &'static str,
    /// The codes, in sections.
    pub sections: &'static [Section],
}

/// The families, in the order of the document.
const FAMILIES: [Family; 5] = [
    Family {
        prefix: "BBOLT",
        title: "the database file",
        intro: "The page and offset of such a finding are those of the damage; for pages of a bucket it also says which bucket, \
                and from which key up to which. Nothing below a page that cannot be followed is looked at, so more may be \
                wrong there.",
        sections: bbolt::SECTIONS,
    },
    Family {
        prefix: "ETCD",
        title: "what the db means",
        intro: "The structure of the file may be whole, and what stands in it no sense to etcd.",
        sections: &[etcd::SECTION, cluster::SECTION],
    },
    Family {
        prefix: "WAL",
        title: "the log",
        intro: "A restore holds the log that it wrote against these, when it reads it back; there they mean that the disk lies.",
        sections: wal::SECTIONS,
    },
    Family {
        prefix: "SNAP",
        title: "snapshots",
        intro: "A restore holds the snapshots that it wrote against these as well.",
        sections: snap::SECTIONS,
    },
    Family {
        prefix: "SALVAGE",
        title: "what could be saved",
        intro: "These are about what came of a damaged database, and not about the database.",
        sections: &[salvage::SECTION],
    },
];

/// All codes by their beginning.
#[must_use]
pub const fn families() -> &'static [Family] {
    &FAMILIES
}

/// All codes, in the order of the document.
pub fn all() -> impl Iterator<Item = &'static Entry> {
    FAMILIES.iter().flat_map(|family| family.sections).flat_map(|section| section.entries)
}

/// What is to be known of `code`, which may be written in small letters; `None` when there is no such code.
#[must_use]
pub fn find(code: &str) -> Option<&'static Entry> {
    all().find(|entry| entry.code.eq_ignore_ascii_case(code))
}

/// `docs/findings.md`, complete.
#[must_use]
pub fn document() -> String {
    let mut out = String::from(INTRO);
    // Writing to a string cannot fail.
    for family in &FAMILIES {
        _ = write!(out, "\n## {}: {}\n\n{}\n", family.prefix, family.title, family.intro);
        for section in family.sections {
            _ = write!(out, "\n### {}\n", section.title);
            if !section.intro.is_empty() {
                _ = write!(out, "\n{}\n", section.intro);
            }
            for Entry { code, title, cause, consequence, remedy } in section.entries {
                _ = write!(
                    out,
                    "\n#### `{code}`: {title}\n\n- **Cause.** {cause}\n- **Consequence.** {consequence}\n- **Remedy.** {remedy}\n"
                );
            }
        }
    }
    out
}

const INTRO: &str = "\
# Findings and their codes

Every complaint about data carries a code that does not change between releases, and an address: file, page or record, byte
offset. An *error* is something etcd, or its own checkers, fail on now or later; a *warning* is something they live with. Either
is exit code 3 when the job was done. `etcd-rescue verify --explain CODE` prints what stands here of one code.

This page is written by `etcd-rescue verify --explain all`, from the texts in `snapshot/src/finding/catalogue`.

Two remedies come up again and again:

- **Take another copy.** The same cluster's other members, and older snapshots, hold the same data. A follower that is rebuilt
  from a healthy leader costs nothing.
- **Let the older meta win.** A power cut can leave a new meta whose pages never reached the disk. The pages of the transaction
  before are still whole, because bbolt never overwrites them; what is lost is that one transaction, and the log usually still
  has it.
";

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_document_is_that_of_the_catalogue() {
        let written = include_str!("../../../docs/findings.md");
        assert!(
            written == document(),
            "docs/findings.md is not what the catalogue says; write it anew: \
             'cargo run -p etcd-rescue -- verify --explain all > docs/findings.md'"
        );
    }

    #[test]
    fn every_code_stands_in_its_family_once_with_whole_sentences() {
        let mut codes = BTreeSet::new();
        for family in families() {
            for entry in family.sections.iter().flat_map(|section| section.entries) {
                let code = entry.code;
                assert!(code.strip_prefix(family.prefix).is_some_and(|rest| rest.starts_with('-')), "{code}");
                assert!(codes.insert(code), "{code} stands there twice");
                assert!(!entry.title.ends_with('.') && entry.title.len() < 70, "{code}: {}", entry.title);
                for text in [entry.cause, entry.consequence, entry.remedy] {
                    assert!(text.ends_with(['.', ')']) && text.len() > 10, "{code}: {text}");
                    assert!(!text.contains("  ") && text.matches('`').count() % 2 == 0, "{code}: {text}");
                    let first = text.chars().next().unwrap();
                    assert!(!first.is_lowercase() || text.starts_with("bbolt") || text.starts_with("etcd"));
                }
            }
        }
        assert_eq!(codes.len(), all().count());
    }

    #[test]
    fn a_code_is_found_in_any_case() {
        assert_eq!(find("wal-crc").map(|entry| entry.code), Some("WAL-CRC"));
        assert_eq!(find("crc"), None);
    }
}
