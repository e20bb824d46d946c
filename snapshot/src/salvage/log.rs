//! What the logs say: nothing yet.

#![allow(dead_code, reason = "being built")]

mod align;
mod asked;
mod pins;
mod steps;
mod table;

use bbolt::Watch;

use super::SalvageError;
use super::ground::Ground;
use super::ways::FromLogs;

/// The ways that lead over a log.
pub(crate) fn ways(_ground: &Ground<'_>, _watch: &dyn Watch) -> Result<FromLogs, SalvageError> {
    Ok(FromLogs::default())
}
