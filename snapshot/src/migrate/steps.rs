//! The way from one storage version to another, a minor version at a time, as etcd goes it: what each version brought.

use bbolt::graft::Pairs;

use crate::schema::{META, STORAGE_VERSION};
use crate::semver::Semver;

/// What a version changed in the backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Change {
    /// A new row with this value until it is written for the first time; a downgrade takes it away.
    NewRow { bucket: &'static [u8], key: &'static [u8], value: &'static [u8] },
}

/// What each minor version of etcd 3 changed (`server/storage/schema/schema.go`, v3.7.1; up to 3.6.14 without the last row).
/// Before 3.6 nobody wrote down what changed.
const CHANGES: &[(i64, &[Change])] =
    &[(6, &[Change::NewRow { bucket: META, key: STORAGE_VERSION, value: b"" }]), (7, &[])];

/// The first version that keeps its own number in the backend.
pub const FIRST_KEPT: Semver = Semver::minor(3, 6);

/// One row of the backend that is to be written or taken away.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Edit {
    /// Its bucket.
    pub bucket: &'static [u8],
    /// Its key.
    pub key: &'static [u8],
    /// Its new value; `None` where it goes.
    pub value: Option<Vec<u8>>,
}

impl Edit {
    /// The row in which a backend keeps its version, as it is at `version`.
    #[must_use]
    pub fn of_version(version: &Semver) -> Self {
        let is_kept = !version.is_before(&FIRST_KEPT);
        let value = is_kept.then(|| version.to_minor().to_string().into_bytes());
        Self { bucket: META, key: STORAGE_VERSION, value }
    }

    /// Makes it in `rows`, those of its bucket.
    pub fn make(&self, rows: &mut Pairs) {
        match &self.value {
            Some(value) => drop(rows.insert(self.key.to_vec(), value.clone())),
            None => drop(rows.remove(self.key)),
        }
    }
}

/// One minor version up or down.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// The version it leads to.
    pub to: Semver,
    /// What it changes, in order.
    pub edits: Vec<Edit>,
}

/// Why there is no way, in etcd's words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoWay {
    /// Another major version.
    #[error("changing major storage version is not supported")]
    Major,
    /// Nobody knows what this version changed.
    #[error("version \"{0}\" is not supported")]
    Unknown(Semver),
}

/// The steps from `from` to `to`; none where both are of one minor version.
///
/// # Errors
/// [`NoWay`].
pub fn steps(from: &Semver, to: &Semver) -> Result<Vec<Step>, NoWay> {
    if from.major != to.major {
        return Err(NoWay::Major);
    }
    let mut steps = Vec::new();
    let mut at = from.minor;
    // Ends: an unknown version is an error, and of known ones there are few.
    while at != to.minor {
        let up = at < to.minor;
        let (higher, next) = if up { (at.saturating_add(1), at.saturating_add(1)) } else { (at, at - 1) };
        let unknown = || NoWay::Unknown(Semver::minor(from.major, higher));
        let known = CHANGES.iter().find(|(minor, _)| from.major == 3 && *minor == higher);
        let (_, changes) = known.ok_or_else(unknown)?;
        let edit = |Change::NewRow { bucket, key, value }: &Change| Edit {
            bucket,
            key,
            value: up.then(|| value.to_vec()),
        };
        let mut edits: Vec<Edit> = changes.iter().map(edit).collect();
        if !up {
            edits.reverse();
        }
        let to = Semver::minor(from.major, next);
        if !to.is_before(&FIRST_KEPT) {
            edits.push(Edit::of_version(&to));
        }
        steps.push(Step { to, edits });
        at = next;
    }
    Ok(steps)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What row `storageVersion` is after the way, having been `row`.
    fn walked(row: Option<&str>, from: &str, to: &str) -> Result<(Vec<String>, Option<String>), String> {
        let version = |text: &str| Semver::parse(text).unwrap();
        let steps = steps(&version(from), &version(to)).map_err(|error| error.to_string())?;
        let mut rows = Pairs::new();
        if let Some(row) = row {
            rows.insert(STORAGE_VERSION.to_vec(), row.as_bytes().to_vec());
        }
        for edit in steps.iter().flat_map(|step| &step.edits) {
            edit.make(&mut rows);
        }
        let left = rows.remove(STORAGE_VERSION).map(|value| String::from_utf8(value).unwrap());
        Ok((steps.iter().map(|step| step.to.to_string()).collect(), left))
    }

    /// What etcd's own tests of its plans and steps expect.
    #[test]
    fn the_steps_are_those_of_etcd() {
        let went = |steps: &[&str], row: Option<&str>| {
            Ok((steps.iter().map(ToString::to_string).collect(), row.map(ToOwned::to_owned)))
        };
        assert_eq!(walked(None, "3.5.0", "3.5.0"), went(&[], None));
        assert_eq!(walked(None, "3.5.0", "3.6.0"), went(&["3.6.0"], Some("3.6.0")));
        assert_eq!(walked(None, "3.5.0", "3.7.0"), went(&["3.6.0", "3.7.0"], Some("3.7.0")));
        assert_eq!(walked(Some("3.7.0"), "3.7.0", "3.6.0"), went(&["3.6.0"], Some("3.6.0")));
        assert_eq!(walked(Some("3.7.0"), "3.7.0", "3.5.0"), went(&["3.6.0", "3.5.0"], None));
        assert_eq!(walked(Some("3.6.0"), "3.6.0", "3.5.0"), went(&["3.5.0"], None));
        // A patch release is none of its own, and its number stays as it was.
        assert_eq!(walked(Some("3.6.1"), "3.6.1", "3.6.0"), went(&[], Some("3.6.1")));
    }

    #[test]
    fn what_etcd_does_not_know_is_refused_in_its_words() {
        let words = |text: &str| Err(text.to_owned());
        assert_eq!(walked(None, "3.5.0", "3.8.0"), words("version \"3.8.0\" is not supported"));
        assert_eq!(walked(None, "3.5.0", "3.4.0"), words("version \"3.5.0\" is not supported"));
        assert_eq!(walked(Some("3.8.0"), "3.8.0", "3.6.0"), words("version \"3.8.0\" is not supported"));
        assert_eq!(
            walked(Some("3.6.0"), "3.6.0", "4.0.0"),
            words("changing major storage version is not supported")
        );
        assert_eq!(walked(Some("4.6.0"), "4.6.0", "4.7.0"), words("version \"4.7.0\" is not supported"));
        assert_eq!(
            walked(Some("3.9223372036854775807.0"), "3.9223372036854775807.0", "3.6.0"),
            words("version \"3.9223372036854775807.0\" is not supported")
        );
    }
}
