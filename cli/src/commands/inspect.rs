//! `inspect`: one page about whatever a path leads to.

mod find;
mod json;
mod page;
mod verdict;

use std::path::{Path, PathBuf};

use clap::Args;
use snapshot::facts::{FactsError, FactsOptions, What};
use snapshot::inspect::{self, InspectOptions, Inspection, Walk};

use crate::context::Context;
use crate::exit::{self, Failure};
use crate::outcome::{Note, Outcome};
use crate::output::{self, Format};
use crate::shown::shown;

/// Most paths of a directory with several that get a page of their own.
const MOST_PAGES: usize = 16;

/// Says on one page what a path is, how its data stands, and what to run next
///
/// Takes whatever there is: a data dir, a member dir, member/snap, member/wal, a database, a snapshot (packed too), a .snap, a
/// .snap.db, a segment, a directory in which several of these lie. What is certain comes first, the verdict and the next
/// command last. The pages of the database are looked at for 0.7 s at most: where that is not enough it says "structure not
/// checked", and does not say that a server starts on it. Exit code 3 when something is wrong.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  etcd-rescue inspect /var/lib/etcd
  etcd-rescue inspect --full member-a member-b snapshot.db
  etcd-rescue inspect --find /mnt/dead-disk")]
pub(crate) struct InspectArgs {
    /// Whatever there is
    #[arg(value_name = "PATH", required_unless_present = "find")]
    paths: Vec<PathBuf>,
    /// The log's directory, where etcd was given one of its own
    #[arg(long, value_name = "DIR")]
    wal_dir: Option<PathBuf>,
    /// Look below the root of a dead system, mounted here, for what was configured there: systemd units, environment files,
    /// static pods, kubeadm, kubespray, KubeSphere, RKE, RKE2, k3s
    #[arg(long, value_name = "ROOT", conflicts_with = "paths")]
    find: Option<PathBuf>,
    /// Look at all pages of the database, however long that takes
    #[arg(long, conflicts_with = "quick")]
    full: bool,
    /// Do not look at the pages of the database
    #[arg(long)]
    quick: bool,
}

/// What the flags ask for.
fn options(args: &InspectArgs, context: &Context) -> InspectOptions {
    let facts =
        FactsOptions { input: context.input_options(), log: context.log_options(args.wal_dir.as_deref()) };
    let walk = match (args.full, args.quick) {
        (true, _) => Walk::Whole,
        (_, true) => Walk::Skip,
        _ => Walk::default(),
    };
    InspectOptions { facts, walk }
}

/// Inspects each path. What cannot be inspected does not keep the others from it.
///
/// # Errors
/// When the output cannot be written, or the user asked to stop.
pub(crate) fn run(args: &InspectArgs, context: &Context) -> Result<Outcome, Failure> {
    let options = options(args, context);
    if let Some(root) = &args.find {
        return find::run(root, &options, context);
    }
    let mut outcome = Outcome::default();
    let (mut failed, mut found) = (false, false);
    let mut open: Vec<PathBuf> = args.paths.iter().rev().cloned().collect();
    while let Some(path) = open.pop() {
        match inspect::inspect(&path, &options, context.watch.as_ref()) {
            Ok(inspection) => {
                found |= is_found(&inspection);
                let looked = &inspection.facts.looked;
                if looked.what == What::Several {
                    open.extend(looked.within.iter().take(MOST_PAGES).rev().cloned());
                }
                put(&mut outcome.result, &inspection, context.format)?;
            }
            Err(error @ FactsError::Interrupted) => return Err(Failure::failed(error.to_string())),
            Err(error) => {
                failed = true;
                outcome.before.push(Note::Warning(shown(&format!("Error: {error}"))));
            }
        }
    }
    outcome.code = if failed {
        exit::FAILED
    } else if found {
        exit::FINDINGS
    } else {
        exit::DONE
    };
    Ok(outcome)
}

/// Whether something is wrong with it, or it is none of etcd's.
fn is_found(inspection: &Inspection) -> bool {
    let facts = &inspection.facts;
    facts.looked.what == What::Other
        || !inspection.findings().is_empty()
        || matches!(&facts.log, Some(Err(_)))
        || facts
            .database
            .as_ref()
            .is_some_and(|database| database.as_ref().map_or(true, |d| d.facts.is_err()))
}

fn put(out: &mut String, inspection: &Inspection, format: Format) -> Result<(), Failure> {
    if format == Format::Json {
        *out += &output::json(&json::of(inspection))?;
    } else {
        if !out.is_empty() {
            out.push('\n');
        }
        *out += &page::of(inspection);
    }
    Ok(())
}

/// `path` as the user reads it, in a line of its own.
fn named(path: &Path) -> String {
    shown(&path.display().to_string())
}
