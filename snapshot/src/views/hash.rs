//! The hash that a server answers to a maintenance request (FORMATS C.6).

use bbolt::{Db, Fault, Node, Source, Watch};
use crc_fast::Digest;
use rayon::prelude::*;

use crate::contents::{CRC_32C, Piece, hash_node};
use crate::schema::{CONSISTENT_INDEX, META, STORAGE_VERSION, TERM};

/// Why there is no hash.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HashError {
    /// A page on the way is damaged, and what it held cannot be hashed.
    #[error("{0}; 'etcd-rescue bbolt check' lists all that is wrong")]
    Fault(#[from] Fault),
    /// A key beside the buckets, on which etcd gives up too.
    #[error("cannot get hash of bucket {0}, which is a key")]
    NoBucket(String),
    /// The user asked to stop.
    #[error("interrupted")]
    Interrupted,
}

/// The CRC-32C over every bucket's name, keys and values, without the rows of `meta` that members may differ in: what etcd 3.6
/// and 3.7 answer, and etcd-dump-db prints.
///
/// # Errors
/// When a page is damaged, the root bucket holds a plain key, or the user asks to stop.
pub fn hash<S: Source>(db: &Db<S>, watch: &dyn Watch) -> Result<u32, HashError> {
    watch.begin("hashing", db.meta().logical_bytes());
    let mut all = Piece::default();
    let mut names = db.root().cursor();
    while let Some(item) = names.next()? {
        let name = item.key.to_vec();
        let Some(bucket) = names.bucket()? else {
            return Err(HashError::NoBucket(bbolt::fault::readable(&name)));
        };
        all = all.followed_by(Piece::of(&name));
        let is_meta = name == META;
        let ranges = bucket.leaf_ranges(4 * rayon::current_num_threads())?;
        let pieces: Vec<Piece> = ranges
            .par_iter()
            .map(|range| {
                let mut digest = Digest::new(CRC_32C);
                let mut len_bytes = 0;
                for node in range.nodes() {
                    if watch.interrupted() {
                        return Err(HashError::Interrupted);
                    }
                    let node = node?;
                    len_bytes +=
                        if is_meta { hash_meta(&mut digest, &node) } else { hash_node(&mut digest, &node) };
                    watch.advance(node.len_bytes());
                }
                Ok(Piece::new(&digest, len_bytes))
            })
            .collect::<Result<_, _>>()?;
        all = pieces.into_iter().fold(all, Piece::followed_by);
    }
    Ok(all.crc())
}

/// Adds the rows of `meta` that every member has alike; returns their length in bytes.
fn hash_meta(digest: &mut Digest, node: &Node<'_>) -> u64 {
    let mut len_bytes = 0;
    for index in 0..node.count() {
        let key = node.key(index);
        if [CONSISTENT_INDEX, TERM, STORAGE_VERSION].contains(&key) {
            continue;
        }
        let value = if node.is_bucket(index) { &[][..] } else { node.value(index) };
        digest.update(key);
        digest.update(value);
        len_bytes += (key.len() + value.len()) as u64;
    }
    len_bytes
}
