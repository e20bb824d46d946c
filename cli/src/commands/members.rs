//! The directories of several members on a command line.

use std::path::PathBuf;

use clap::Args;
use snapshot::survivors::GivenPath;

use crate::exit::Failure;

/// The members, and where their logs lie.
#[derive(Debug, Args)]
pub(crate) struct MembersArgs {
    /// What is left of the members: data dirs, member dirs, dbs, snapshots
    #[arg(value_name = "DIR", required = true)]
    pub(crate) dirs: Vec<PathBuf>,
    /// The log's directory, where etcd was given one of its own: once for each DIR, in their order
    #[arg(long, value_name = "DIR")]
    pub(crate) wal_dir: Vec<PathBuf>,
}

impl MembersArgs {
    /// Each with its log's directory.
    ///
    /// # Errors
    /// When there are some of these, and not one for each.
    pub(crate) fn given(&self) -> Result<Vec<GivenPath>, Failure> {
        if !self.wal_dir.is_empty() && self.wal_dir.len() != self.dirs.len() {
            return Err(Failure::usage(format!(
                "--wal-dir: was given {} time(s) for {} DIR(s); give it once for each, in their order, or not at all",
                self.wal_dir.len(),
                self.dirs.len()
            )));
        }
        let mut wal_dirs = self.wal_dir.iter().cloned();
        Ok(self.dirs.iter().map(|path| GivenPath { path: path.clone(), wal_dir: wal_dirs.next() }).collect())
    }
}
