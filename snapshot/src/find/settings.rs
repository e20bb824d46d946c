//! The flags of etcd, from wherever they come: arguments, environment, a file.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::Value;

/// The flags that say where the data is, who the member is, and whom it belongs to. Others are passed over.
const KEPT: [&str; 16] = [
    "name",
    "data-dir",
    "wal-dir",
    "config-file",
    "initial-cluster",
    "initial-cluster-token",
    "initial-cluster-state",
    "initial-advertise-peer-urls",
    "listen-peer-urls",
    "advertise-client-urls",
    "listen-client-urls",
    "force-new-cluster",
    "snapshot-count",
    "quota-backend-bytes",
    "enable-v2",
    "v2-deprecation",
];

/// What etcd is called where nothing names it.
const DEFAULT_NAME: &str = "default";

/// Flags of etcd, by their names without dashes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Settings {
    flags: BTreeMap<&'static str, String>,
    /// Directories of a container, and what they are outside of it.
    pub(super) mounts: Vec<(PathBuf, PathBuf)>,
    /// Where etcd was started.
    pub(super) working_dir: Option<PathBuf>,
}

impl Settings {
    /// The value of the flag `name`.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.flags.get(name).map(String::as_str)
    }

    /// All flags with their values, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, &str)> {
        self.flags.iter().map(|(name, value)| (*name, value.as_str()))
    }

    /// True when no flag is known.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.flags.is_empty()
    }

    /// The data dir: that of the flag, or `NAME.etcd` where etcd was started.
    #[must_use]
    pub fn data_dir(&self) -> Option<PathBuf> {
        let dir = match self.get("data-dir").filter(|dir| !dir.is_empty()) {
            Some(dir) => PathBuf::from(dir),
            None => PathBuf::from(format!("{}.etcd", self.get("name").unwrap_or(DEFAULT_NAME))),
        };
        let working_dir = self.working_dir.as_deref().unwrap_or(Path::new("/"));
        Some(working_dir.join(dir))
    }

    fn set(&mut self, name: &str, value: &str) {
        if let Some(kept) = KEPT.iter().find(|kept| **kept == name) {
            self.flags.insert(kept, value.to_owned());
        }
    }

    /// Sets the flag `name` where it has no value.
    pub(super) fn set_default(&mut self, name: &str, value: &str) {
        if self.get(name).is_none() {
            self.set(name, value);
        }
    }

    /// Takes all flags of `other` in place of these; mounts stay.
    pub(super) fn replace_by(&mut self, other: Self) {
        self.flags = other.flags;
    }

    /// The flags in `ETCD_…` variables. An empty one counts as not given, as for etcd.
    pub(super) fn of_environment(environment: &[(String, String)]) -> Self {
        let mut settings = Self::default();
        for (name, value) in environment {
            if let Some(name) = name.strip_prefix("ETCD_").filter(|_| !value.is_empty()) {
                settings.set(&name.to_ascii_lowercase().replace('_', "-"), value);
            }
        }
        settings
    }

    /// The flags in a file for `--config-file`.
    pub(super) fn of_config(document: &Value) -> Self {
        let mut settings = Self::default();
        for (name, value) in document.as_object().into_iter().flatten() {
            if let Some(value) = value.as_str().filter(|value| !value.is_empty()) {
                settings.set(name, value);
            }
        }
        settings
    }

    /// Takes the flags among `arguments`, which count more than what is known: `--name=value`, `--name value`, with one dash
    /// or two.
    pub(super) fn take_arguments(&mut self, arguments: &[String]) {
        let mut arguments = arguments.iter().peekable();
        while let Some(argument) = arguments.next() {
            let Some(flag) = argument.strip_prefix('-') else { continue };
            let flag = flag.strip_prefix('-').unwrap_or(flag);
            match flag.split_once('=') {
                Some((name, value)) => self.set(name, value),
                // A switch has no value of its own in a word behind it, and those behind it are flags again.
                None => match arguments.next_if(|next| !next.starts_with('-')) {
                    Some(value) => self.set(flag, value),
                    None => self.set(flag, "true"),
                },
            }
        }
    }

    /// What `path` of a container is outside of it: the deepest mount around it counts.
    pub(super) fn mapped(&self, path: &Path) -> PathBuf {
        let around = self.mounts.iter().filter(|(inside, _)| path.starts_with(inside));
        match around.max_by_key(|(inside, _)| inside.components().count()) {
            Some((inside, outside)) => match path.strip_prefix(inside) {
                Ok(rest) if rest.as_os_str().is_empty() => outside.clone(),
                Ok(rest) => outside.join(rest),
                Err(_) => path.to_owned(),
            },
            None => path.to_owned(),
        }
    }

    /// Turns the directories of a container into what they are outside of it.
    pub(super) fn map_directories(&mut self) {
        for name in ["data-dir", "wal-dir"] {
            if let Some(dir) = self.get(name).map(PathBuf::from) {
                let mapped = self.mapped(&dir);
                self.set(name, &mapped.to_string_lossy());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_count_more_than_the_environment() {
        let environment = [
            ("ETCD_NAME".to_owned(), "of-env".to_owned()),
            ("ETCD_DATA_DIR".to_owned(), "/env".to_owned()),
            ("ETCD_WAL_DIR".to_owned(), String::new()),
            ("OTHER".to_owned(), "x".to_owned()),
        ];
        let mut settings = Settings::of_environment(&environment);
        let words =
            ["--data-dir", "/flag", "-initial-cluster-token=t", "--force-new-cluster", "--unknown=1", "word"];
        settings.take_arguments(&words.map(str::to_owned));
        let all: Vec<(&str, &str)> = settings.iter().collect();
        assert_eq!(
            all,
            [
                ("data-dir", "/flag"),
                ("force-new-cluster", "true"),
                ("initial-cluster-token", "t"),
                ("name", "of-env"),
            ]
        );
        assert_eq!(settings.data_dir(), Some(PathBuf::from("/flag")));
    }

    #[test]
    fn without_a_data_dir_it_is_named_after_the_member() {
        let mut settings =
            Settings { working_dir: Some(PathBuf::from("/var/lib/etcd")), ..Settings::default() };
        assert_eq!(settings.data_dir(), Some(PathBuf::from("/var/lib/etcd/default.etcd")));
        settings.take_arguments(&["--name=n1".to_owned()]);
        assert_eq!(settings.data_dir(), Some(PathBuf::from("/var/lib/etcd/n1.etcd")));
    }

    #[test]
    fn the_deepest_mount_counts() {
        let mounts = [("/var", "/a"), ("/var/lib/etcd", "/b"), ("/etc", "/c")];
        let mounts = mounts.map(|(inside, outside)| (PathBuf::from(inside), PathBuf::from(outside))).to_vec();
        let settings = Settings { mounts, ..Settings::default() };
        for (inside, outside) in
            [("/var/lib/etcd", "/b"), ("/var/lib/etcd/x", "/b/x"), ("/var/x", "/a/x"), ("/home", "/home")]
        {
            assert_eq!(settings.mapped(Path::new(inside)), Path::new(outside));
        }
    }
}
