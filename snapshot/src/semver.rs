//! Versions as etcd's own library for them reads, compares and writes them (`coreos/go-semver`).

use std::cmp::Ordering;
use std::fmt;

use bbolt::goquote;

/// A version in three numbers, perhaps with a pre-release (`3.6.0-rc.1`) and metadata (`3.6.0+build`).
#[derive(Debug, Clone, PartialEq, Eq, Default, Hash)]
pub struct Semver {
    /// The first number.
    pub major: i64,
    /// The second one.
    pub minor: i64,
    /// The third one.
    pub patch: i64,
    /// What stands behind `-`.
    pub pre_release: String,
    /// What stands behind `+`; it takes no part in comparisons of age.
    pub metadata: String,
}

/// Why a text is no version, in the words of etcd's library.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SemverError {
    /// There are no two dots in it.
    #[error("{0} is not in dotted-tri format")]
    NotDotted(String),
    /// The pre-release has other characters than letters, digits, `-` and `.`.
    #[error("failed to validate pre-release: {0} is not a valid semver identifier")]
    PreRelease(String),
    /// So has the metadata.
    #[error("failed to validate metadata: {0} is not a valid semver identifier")]
    Metadata(String),
    /// One of the three is no number.
    #[error("strconv.ParseInt: parsing {}: invalid syntax", quoted(.0))]
    NoNumber(String),
    /// One of the three has no room in 64 bits.
    #[error("strconv.ParseInt: parsing {}: value out of range", quoted(.0))]
    OutOfRange(String),
}

/// `text` as Go's `%q` shows it.
#[must_use]
pub fn quoted(text: &str) -> String {
    let mut out = Vec::new();
    goquote::quote(text.as_bytes(), &mut out);
    String::from_utf8_lossy(&out).into_owned()
}

impl Semver {
    /// The version `major.minor.0`.
    #[must_use]
    pub const fn minor(major: i64, minor: i64) -> Self {
        Self { major, minor, patch: 0, pre_release: String::new(), metadata: String::new() }
    }

    /// Reads `text`, such as `3.6.0`.
    ///
    /// # Errors
    /// [`SemverError`].
    pub fn parse(text: &str) -> Result<Self, SemverError> {
        let (text, metadata) = text.split_once('+').unwrap_or((text, ""));
        let (text, pre_release) = text.split_once('-').unwrap_or((text, ""));
        let mut parts = text.splitn(3, '.');
        let (Some(major), Some(minor), Some(patch)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(SemverError::NotDotted(text.to_owned()));
        };
        if !is_identifier(pre_release) {
            return Err(SemverError::PreRelease(pre_release.to_owned()));
        }
        if !is_identifier(metadata) {
            return Err(SemverError::Metadata(metadata.to_owned()));
        }
        Ok(Self {
            major: number(major)?,
            minor: number(minor)?,
            patch: number(patch)?,
            pre_release: pre_release.to_owned(),
            metadata: metadata.to_owned(),
        })
    }

    /// The version without all behind its second number.
    #[must_use]
    pub const fn to_minor(&self) -> Self {
        Self::minor(self.major, self.minor)
    }

    /// The first two numbers, as people name a release: `3.6`.
    #[must_use]
    pub fn short(&self) -> String {
        format!("{}.{}", self.major, self.minor)
    }

    /// Which of two versions is the older one; metadata does not count, and a pre-release comes before its release.
    #[must_use]
    pub fn age(&self, other: &Self) -> Ordering {
        let numbers = |version: &Self| (version.major, version.minor, version.patch);
        numbers(self).cmp(&numbers(other)).then_with(|| pre_releases(&self.pre_release, &other.pre_release))
    }

    /// Whether this version comes before `other`.
    #[must_use]
    pub fn is_before(&self, other: &Self) -> bool {
        self.age(other) == Ordering::Less
    }
}

impl fmt::Display for Semver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)?;
        if !self.pre_release.is_empty() {
            write!(f, "-{}", self.pre_release)?;
        }
        if !self.metadata.is_empty() {
            write!(f, "+{}", self.metadata)?;
        }
        Ok(())
    }
}

fn is_identifier(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.'))
}

/// A decimal number. Signs cannot come up: both are separators.
fn number(text: &str) -> Result<i64, SemverError> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(SemverError::NoNumber(text.to_owned()));
    }
    text.parse().map_err(|_| SemverError::OutOfRange(text.to_owned()))
}

fn pre_releases(one: &str, other: &str) -> Ordering {
    match (one.is_empty(), other.is_empty()) {
        (true, true) => return Ordering::Equal,
        (true, false) => return Ordering::Greater,
        (false, true) => return Ordering::Less,
        (false, false) => {}
    }
    let (mut ones, mut others) = (one.split('.'), other.split('.'));
    loop {
        let (one, other) = match (ones.next(), others.next()) {
            (None, None) => return Ordering::Equal,
            (None, Some(_)) => return Ordering::Less,
            (Some(_), None) => return Ordering::Greater,
            (Some(one), Some(other)) => (one, other),
        };
        let found = match (one.parse::<i64>(), other.parse::<i64>()) {
            (Ok(one), Ok(other)) => one.cmp(&other),
            // A number comes before a word.
            (Ok(_), Err(_)) => Ordering::Less,
            (Err(_), Ok(_)) => Ordering::Greater,
            (Err(_), Err(_)) => one.cmp(other),
        };
        if found != Ordering::Equal {
            return found;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_as_etcd_reads_them() {
        let read = |text: &str| Semver::parse(text).map_err(|error| error.to_string());
        assert_eq!(read("3.6.0"), Ok(Semver::minor(3, 6)));
        assert_eq!(read("03.06.1").map(|version| version.to_string()), Ok("3.6.1".to_owned()));
        let full = read("3.6.0-rc.1+b-7").unwrap();
        assert_eq!((full.pre_release.as_str(), full.metadata.as_str()), ("rc.1", "b-7"));
        assert_eq!(full.to_string(), "3.6.0-rc.1+b-7");
        for (text, words) in [
            ("", " is not in dotted-tri format"),
            ("3.6", "3.6 is not in dotted-tri format"),
            ("-3.6.0", " is not in dotted-tri format"),
            ("v3.6.0", "strconv.ParseInt: parsing \"v3\": invalid syntax"),
            ("3..0", "strconv.ParseInt: parsing \"\": invalid syntax"),
            ("3.6.0.1", "strconv.ParseInt: parsing \"0.1\": invalid syntax"),
            ("3.6.0-ä", "failed to validate pre-release: ä is not a valid semver identifier"),
            ("3.6.0+ ", "failed to validate metadata:   is not a valid semver identifier"),
            (
                "3.9223372036854775808.0",
                "strconv.ParseInt: parsing \"9223372036854775808\": value out of range",
            ),
        ] {
            assert_eq!(read(text), Err(words.to_owned()), "{text:?}");
        }
    }

    #[test]
    fn a_pre_release_comes_before_its_release() {
        let ascending = [
            "3.5.9",
            "3.6.0-alpha",
            "3.6.0-alpha.1",
            "3.6.0-alpha.b",
            "3.6.0-rc.2",
            "3.6.0-rc.10",
            "3.6.0",
            "3.6.1",
            "3.10.0",
            "4.0.0",
        ];
        let versions: Vec<Semver> = ascending.iter().map(|text| Semver::parse(text).unwrap()).collect();
        for (at, one) in versions.iter().enumerate() {
            for (behind, other) in versions.iter().enumerate() {
                assert_eq!(one.age(other), at.cmp(&behind), "{one} {other}");
            }
        }
        assert_eq!(
            Semver::parse("3.6.0+a").unwrap().age(&Semver::parse("3.6.0+b").unwrap()),
            Ordering::Equal
        );
    }
}
