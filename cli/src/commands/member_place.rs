//! A member's directory on a command line, and where an edited one goes.

use std::path::PathBuf;

use clap::Args;
use snapshot::member_copy::{CopyOptions, Publish};

use super::writing::WriteArgs;
use crate::exit::Failure;

/// The member, and where the edited one goes.
#[derive(Debug, Args)]
pub(crate) struct MemberPlaceArgs {
    /// The data dir or member dir of a member that does not run
    #[arg(value_name = "DIR")]
    pub(super) input: PathBuf,
    /// The data dir to write; it must not exist or be empty [needed, or --in-place]
    #[arg(short, long, value_name = "OUT")]
    pub(super) output: Option<PathBuf>,
    /// Put the edited member in the place of the old one, which is kept beside it as member.original
    #[arg(long, conflicts_with = "output")]
    pub(super) in_place: bool,
    /// The log's directory, where etcd was given one of its own
    #[arg(long, value_name = "DIR")]
    pub(super) wal_dir: Option<PathBuf>,
    /// The log's directory to write [default: member/wal in OUT]
    #[arg(long, value_name = "DIR", requires = "output")]
    pub(super) output_wal_dir: Option<PathBuf>,
    #[command(flatten)]
    pub(super) write: WriteArgs,
}

impl MemberPlaceArgs {
    /// Where to, and for whom.
    ///
    /// # Errors
    /// When no place was named, or the owner is not known.
    pub(super) fn copy(&self) -> Result<CopyOptions, Failure> {
        let publish = match &self.output {
            _ if self.in_place => Publish::InPlace,
            Some(output) => {
                Publish::Copy { output: output.clone(), output_wal_dir: self.output_wal_dir.clone() }
            }
            None if self.write.dry_run => Publish::Nowhere,
            None => {
                return Err(Failure::usage(
                    "-o OUT is missing: the edited member needs a place. --in-place puts it where the old one is, and keeps that beside it; --dry-run \
                     says what would be done",
                ));
            }
        };
        Ok(CopyOptions {
            publish,
            dry_run: self.write.dry_run,
            clean: self.write.clean,
            owner: self.write.owner()?,
        })
    }
}
