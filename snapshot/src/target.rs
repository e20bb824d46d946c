//! The etcd versions an output can be made for, and how a database tells which one wrote it.

use std::fmt;
use std::str::FromStr;

/// A minor version of etcd whose restore tool is followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
pub enum TargetVersion {
    /// etcd 3.4.
    #[serde(rename = "3.4")]
    V3_4,
    /// etcd 3.5.
    #[serde(rename = "3.5")]
    V3_5,
    /// etcd 3.6.
    #[serde(rename = "3.6")]
    V3_6,
    /// etcd 3.7.
    #[serde(rename = "3.7")]
    V3_7,
}

/// A version that is none of those known.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{given:?} is not a version this tool writes for; it knows 3.4, 3.5, 3.6 and 3.7")]
pub struct UnknownVersion {
    /// What was given.
    pub given: String,
}

impl TargetVersion {
    /// All of them, oldest first.
    pub const ALL: [Self; 4] = [Self::V3_4, Self::V3_5, Self::V3_6, Self::V3_7];

    /// The minor version number.
    #[must_use]
    pub fn minor(self) -> u32 {
        match self {
            Self::V3_4 => 4,
            Self::V3_5 => 5,
            Self::V3_6 => 6,
            Self::V3_7 => 7,
        }
    }

    /// How that version's tool encodes its log and `.snap`.
    #[must_use]
    pub fn dialect(self) -> wal::Dialect {
        match self {
            Self::V3_4 => wal::Dialect::V3_4,
            Self::V3_5 | Self::V3_6 => wal::Dialect::V3_5,
            Self::V3_7 => wal::Dialect::V3_7,
        }
    }
}

/// The minor number of a 3.x version as etcd writes it (`3.6.0`); `None` for anything else.
#[must_use]
pub fn minor_of(version: &str) -> Option<u32> {
    version.strip_prefix("3.")?.split('.').next()?.parse().ok()
}

impl fmt::Display for TargetVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "3.{}", self.minor())
    }
}

impl FromStr for TargetVersion {
    type Err = UnknownVersion;

    /// Accepts `3.5`, `v3.5` and `3.5.30`.
    fn from_str(given: &str) -> Result<Self, Self::Err> {
        let unknown = || UnknownVersion { given: given.to_owned() };
        let mut parts = given.strip_prefix('v').unwrap_or(given).split('.');
        let (major, minor) = (parts.next(), parts.next());
        let patch_is_number = parts.next().is_none_or(|p| p.parse::<u32>().is_ok());
        if major != Some("3") || !patch_is_number || parts.next().is_some() {
            return Err(unknown());
        }
        let minor: u32 = minor.and_then(|m| m.parse().ok()).ok_or_else(unknown)?;
        Self::ALL.into_iter().find(|v| v.minor() == minor).ok_or_else(unknown)
    }
}
