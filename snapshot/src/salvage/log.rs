//! What the logs say: the ways out that lead over a log, each held against what survived.

mod align;
mod asked;
mod bases;
mod counts;
mod fill;
mod held;
mod lost;
mod made;
mod pins;
mod reading;
mod steps;
mod survivors;
mod table;
mod verify;

use bbolt::Watch;

use super::SalvageError;
use super::ground::Ground;
use super::ways::FromLogs;
use bases::Tried;

/// The ways that lead over a log.
///
/// # Errors
/// When a temporary file cannot be written, a log changed meanwhile, or the user asked to stop.
pub(crate) fn ways(ground: &Ground<'_>, watch: &dyn Watch) -> Result<FromLogs, SalvageError> {
    let mut found = FromLogs::default();
    let Some(read) = reading::newest(ground, &mut found, watch)? else { return Ok(found) };
    if read.log.segments.is_empty() {
        return Ok(found);
    }
    found.readable = read.readable();
    match bases::on_trees(ground, &read, &mut found, watch)? {
        Tried::Held => {
            // The tree is sound in itself, and its records may be wrong all the same.
            survivors::beside(ground, &read, true, &mut found, watch)?;
            bases::on_nothing(ground, &read, &mut found, watch)?;
            return Ok(found);
        }
        // What it has says nothing of this database, neither that something is lost.
        Tried::Foreign => {
            return Ok(FromLogs { reports: found.reports, findings: found.findings, ..FromLogs::default() });
        }
        Tried::Broken | Tried::Refused => {}
    }
    if bases::on_nothing(ground, &read, &mut found, watch)? {
        return Ok(found);
    }
    survivors::beside(ground, &read, false, &mut found, watch)?;
    Ok(found)
}
