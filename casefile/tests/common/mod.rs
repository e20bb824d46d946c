//! What tests of hazards share.
#![allow(clippy::unwrap_used, reason = "helpers of tests, which clippy does not see as tests")]

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use casefile::{AddError, AddOptions, Case, CaseError, Find, LogQuery, Timeline, add};

pub(crate) fn case_in(dir: &Path) -> (PathBuf, PathBuf) {
    let case = dir.join("a.case");
    Case::create(&case, "etcd-rescue case new a.case").unwrap();
    (case, testdata::snapshot_file("3.5.30", "s1-precompact", dir))
}

pub(crate) fn add_quietly(case: &Path, name: &str, source: &Path) -> Result<casefile::Added, AddError> {
    add(case, name, source, &AddOptions { command: format!("case add {name}"), ..AddOptions::default() }, &())
}

/// Asks everything there is to ask; damage is an error, and nothing else is allowed to happen.
pub(crate) fn ask_everything(path: &Path) -> Result<(), CaseError> {
    let case = Case::open(path)?;
    let go = |_: &_| ControlFlow::<()>::Continue(());
    case.commands()?;
    case.seals()?;
    let life = case.key(b"/app/0001")?;
    for row in life.steps {
        // Values are not in this case, and the source may be what is damaged.
        _ = case.value(&row);
    }
    case.timeline(&Timeline::default(), &mut |row| {
        for held in &row.held {
            _ = case.cite(held);
        }
        ControlFlow::Continue(())
    })?;
    case.at(100, b"", &mut |_| ControlFlow::Continue(()))?;
    case.find(&Find { deleted: true, ..Find::default() }, &mut |_| ControlFlow::Continue(()))?;
    case.log(&LogQuery::default(), &mut |_| ControlFlow::Continue(()))?;
    for source in case.sources() {
        case.page_runs(source)?;
        case.diff(source, source, &mut |_| ControlFlow::Continue(()))?;
    }
    _ = go(&());
    case.contents(&())?;
    Ok(())
}
