//! The buckets beside `key`: for now, those of the tree that a way begins with.

use bbolt::Watch;

use super::SalvageError;
use super::ground::Ground;
use super::ways::Small;
use crate::schema::KEY;

/// The small buckets for a way that begins with tree `tree`.
pub(crate) fn gather(
    ground: &Ground<'_>,
    tree: Option<usize>,
    watch: &dyn Watch,
) -> Result<Small, SalvageError> {
    let mut small = Small::default();
    if watch.interrupted() {
        return Err(SalvageError::Interrupted);
    }
    let Some(tree) = tree.and_then(|number| ground.evidence.trees.get(number)) else { return Ok(small) };
    let Some(source) = ground.evidence.sources.get(tree.source) else { return Ok(small) };
    for bucket in tree.buckets.iter().filter(|bucket| bucket.name != KEY) {
        let rows = small.buckets.entry(bucket.name.clone()).or_default();
        for node in bucket.nodes(&source.pages) {
            for at in (0..node.count()).filter(|at| !node.is_bucket(*at)) {
                rows.insert(node.key(at).to_vec(), node.value(at).to_vec());
            }
        }
    }
    Ok(small)
}
