//! Putting a db into a file of its own, staged: its name appears when it is whole.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;

use bbolt::Watch;
use sha2::{Digest, Sha256};
use snapshot::stage::{Kind, Stage};

use crate::db::db;
use crate::error::GenerateError;
use crate::facts::Facts;
use crate::shape::Shape;

/// How much of the image is hashed at a time, in bytes.
const STEP_BYTES: usize = 1 << 20;

/// Writes the db of `shape` to `path`, which must not exist: with `trailer` as a snapshot, which ends with the SHA-256
/// of the image, and else as a db.
///
/// # Errors
/// [`GenerateError`]; nothing is left behind then.
pub fn db_file(shape: &Shape, path: &Path, trailer: bool, watch: &dyn Watch) -> Result<Facts, GenerateError> {
    shape.validate()?;
    let stage = Stage::new(path, Kind::File)?;
    let mut file = match stage.file() {
        Some(file) => file.try_clone().map_err(GenerateError::io("write the output"))?,
        None => return Err(GenerateError::io("write the output")(io::ErrorKind::NotFound.into())),
    };
    let facts = db(shape, &file, watch)?;
    if trailer {
        append_digest(&mut file, facts.image_bytes, watch)?;
    }
    if watch.interrupted() {
        return Err(GenerateError::Interrupted);
    }
    stage.commit(None)?;
    Ok(facts)
}

/// The metas, written last, stand at the file's beginning, so the hash is made of the file as it is.
fn append_digest(file: &mut File, image_bytes: u64, watch: &dyn Watch) -> Result<(), GenerateError> {
    watch.begin("hashing", image_bytes);
    let io = GenerateError::io;
    file.seek(SeekFrom::Start(0)).map_err(io("read the output back"))?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; STEP_BYTES];
    let mut image = file.take(image_bytes);
    loop {
        let count = image.read(&mut buffer).map_err(io("read the output back"))?;
        if count == 0 {
            break;
        }
        hash.update(buffer.get(..count).unwrap_or_default());
        watch.advance(u64::try_from(count).unwrap_or_default());
        if watch.interrupted() {
            return Err(GenerateError::Interrupted);
        }
    }
    let file = image.into_inner();
    file.seek(SeekFrom::Start(image_bytes)).map_err(io("write the output"))?;
    file.write_all(&hash.finalize()).map_err(io("write the output"))
}
