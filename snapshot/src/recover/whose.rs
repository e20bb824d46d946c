//! Whose data to believe, where the databases of members differ though they should not.

use std::collections::BTreeSet;
use std::path::Path;

use bbolt::Watch;

use super::RecoverError;
use crate::compare;
use crate::finding::Finding;
use crate::survivors::Survivors;

/// Whom to believe.
pub(super) struct Whose {
    /// The survivors, by their places, whose databases may be begun with.
    pub(super) trusted: BTreeSet<usize>,
    /// Where databases differ.
    pub(super) findings: Vec<Finding>,
}

/// Compares the databases of `survivors`: where they differ, the majority is believed, and without one nobody, unless `base` says
/// who is.
pub(super) fn whose(
    survivors: &Survivors,
    base: Option<&Path>,
    watch: &dyn Watch,
) -> Result<Whose, RecoverError> {
    let mut trusted: BTreeSet<usize> = (0..survivors.all.len()).collect();
    let have_data = survivors.all.iter().filter(|survivor| survivor.facts.database_facts().is_some());
    if have_data.count() < 2 {
        return Ok(Whose { trusted, findings: Vec::new() });
    }
    let data = compare::compare_data(survivors, 0, watch)?;
    let findings = compare::of_data(&data, survivors);
    if !data.agrees() && base.is_none() {
        let Some(majority) = data.majority() else { return Err(RecoverError::DataDiffers { findings }) };
        let compared = data.groups.iter().flat_map(|group| &group.survivors);
        let lacking = data.in_part.iter().filter(|part| part.first.is_some()).map(|part| &part.survivor);
        for place in compared.chain(lacking).filter(|place| !majority.contains(place)) {
            trusted.remove(place);
        }
    }
    Ok(Whose { trusted, findings })
}
