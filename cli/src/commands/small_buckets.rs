//! What the commands share that show the buckets beside the keys: leases, users and roles, alarms.

use snapshot::schema::Schema;

use super::kv_input::KvInput;
use crate::exit::Failure;

/// What the db says of itself.
///
/// # Errors
/// When it is no database, or damaged where that lies.
pub(super) fn schema(input: &KvInput) -> Result<Schema, Failure> {
    Schema::read(&input.db()?).map_err(|fault| damaged(input, &fault))
}

/// A page on the way was damaged.
pub(super) fn damaged(input: &KvInput, fault: &bbolt::Fault) -> Failure {
    let path = input.opened.path().display();
    Failure::failed(format!(
        "{path}: {fault}. 'etcd-rescue bbolt check' says what else is wrong, 'etcd-rescue iterate-bucket' shows what can \
         still be read"
    ))
}
