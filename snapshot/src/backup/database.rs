//! The backup's database: that of the member without its cluster, or one that only says up to which entry there is nothing to do.

use bbolt::graft::{Graft, GraftError, Pairs, Patch};
use bbolt::{Build, BuildError, BuildOptions, Db, Source};

use super::Plan;
use crate::membership::hex_id;
use crate::schema::{CLUSTER, CONSISTENT_INDEX, MEMBERS, MEMBERS_REMOVED, META, TERM};

/// The rows of the members: those of whom raft is told, and nobody else. One that no change of members removes would stay for ever
/// among the members that servers from 3.6 on list.
fn members(plan: &Plan) -> Pairs {
    let placeholder = plan.identity.placeholder();
    let row = (hex_id(placeholder.id).into_bytes(), placeholder.to_json());
    plan.snap.iter().map(|_| row.clone()).collect()
}

/// The pages that take the cluster out of `db`. Everything else stays, the consistent index above all.
pub(super) fn without_cluster<S: Source>(db: &Db<S>, plan: &Plan) -> Result<Patch, GraftError> {
    let mut graft = Graft::new(db);
    graft.replace_bucket(MEMBERS, members(plan))?;
    graft.replace_bucket(MEMBERS_REMOVED, Pairs::new())?;
    graft.replace_bucket(CLUSTER, Pairs::new())?;
    graft.finish()
}

/// A database without keys, for servers that are not to apply entries up to the consistent index to it.
pub(super) fn empty(plan: &Plan) -> Result<Vec<u8>, BuildError> {
    let mut meta = Pairs::new();
    meta.insert(CONSISTENT_INDEX.to_vec(), plan.consistent_index.to_be_bytes().to_vec());
    if let Some(term) = plan.term {
        meta.insert(TERM.to_vec(), term.to_be_bytes().to_vec());
    }
    let mut image = Vec::new();
    let mut build = Build::new(&mut image, BuildOptions::default())?;
    let buckets =
        [(CLUSTER, Pairs::new()), (MEMBERS, members(plan)), (MEMBERS_REMOVED, Pairs::new()), (META, meta)];
    for (name, pairs) in buckets {
        build.begin_bucket(name)?;
        for (key, value) in pairs {
            build.put(&key, &value)?;
        }
        build.end_bucket()?;
    }
    build.finish()?;
    Ok(image)
}
