//! The commands to type next.

use std::path::Path;

use snapshot::salvage::Report;

use super::{Done, SalvageArgs};
use crate::next_steps::quoted_path;
use crate::shown::shown;

/// The next commands.
pub(super) fn of(report: &Report, done: Done, args: &SalvageArgs) -> String {
    let mut lines = vec!["Next".to_owned()];
    match (done, &report.output) {
        (Done::Written, Some(output)) => {
            let path = quoted_path(&output.path);
            // Clients may have seen revisions that are gone.
            let bump = if report.account.is_complete() { "" } else { " --bump-revision auto" };
            lines.push(format!("  etcd-rescue snapshot restore {path} --data-dir restored{bump}"));
            lines.push(format!("  etcd-rescue kv list {path} --keys-only"));
        }
        _ => {
            let accept = if report.account.loses.is_certain() { " --accept-loss" } else { "" };
            lines.push(format!("  {}{accept}", again(args)));
        }
    }
    lines.into_iter().map(|line| shown(&line) + "\n").collect()
}

/// The command that was typed, so that it writes.
fn again(args: &SalvageArgs) -> String {
    let mut line = "etcd-rescue salvage".to_owned();
    for input in &args.inputs {
        line += &format!(" {}", quoted_path(input));
    }
    for map in &args.bad_map {
        line += &format!(" --bad-map {}", quoted_path(Path::new(map)));
    }
    if let Some(size) = args.page_size {
        line += &format!(" --page-size {size}");
    }
    if let Some(dir) = &args.wal_dir {
        line += &format!(" --wal-dir {}", quoted_path(dir));
    }
    for (flag, given) in [("--no-replay", args.no_replay), ("--include-compacted", args.include_compacted)] {
        if given {
            line += &format!(" {flag}");
        }
    }
    if let Some(release) = args.as_etcd {
        line += &format!(" --as-etcd {release}");
    }
    if let Some(number) = args.plan {
        line += &format!(" --plan {number}");
    }
    let output = args.output.as_deref().unwrap_or(Path::new("saved.db"));
    line + &format!(" -o {}", quoted_path(output))
}
