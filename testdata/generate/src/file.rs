//! Putting a db into a file of its own, staged: its name appears when it is whole.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use bbolt::Watch;
use sha2::{Digest, Sha256};
use snapshot::stage::{Kind, Stage};

use crate::db::{db, go_on};
use crate::error::GenerateError;
use crate::facts::Facts;
use crate::outputs::DbOutput;
use crate::shape::Shape;

/// How much of the image is hashed at a time, in bytes.
const STEP_BYTES: usize = 1 << 20;

/// A db in the making.
pub(crate) struct DbFile {
    stage: Stage,
    /// The staged file, which keeps its inode from being given to another.
    file: File,
    trailer: bool,
    /// Directories above the file that were not there before, innermost first.
    missing: Vec<PathBuf>,
}

/// A db that has its name, until it is known whether the rest of the job succeeds.
pub(crate) struct PublishedDb {
    path: PathBuf,
    file: File,
    missing: Vec<PathBuf>,
}

impl DbFile {
    /// Makes room for a db called `path`.
    pub(crate) fn open(output: &DbOutput) -> Result<Self, GenerateError> {
        let above = output.path.ancestors().skip(1).take_while(|dir| !dir.as_os_str().is_empty());
        let missing = above.take_while(|dir| fs::metadata(dir).is_err()).map(Path::to_owned).collect();
        let stage = Stage::new(&output.path, Kind::File)?;
        let file = match stage.file() {
            Some(file) => file.try_clone().map_err(GenerateError::io("write the output"))?,
            None => return Err(GenerateError::io("write the output")(io::ErrorKind::NotFound.into())),
        };
        Ok(Self { stage, file, trailer: output.trailer, missing })
    }

    pub(crate) fn write(&mut self, shape: &Shape, watch: &dyn Watch) -> Result<Facts, GenerateError> {
        let facts = db(shape, &self.file, watch)?;
        if self.trailer {
            append_digest(&mut self.file, facts.image_bytes, watch)?;
        }
        Ok(facts)
    }

    pub(crate) fn commit(self) -> Result<PublishedDb, GenerateError> {
        let path = self.stage.final_path().to_owned();
        self.stage.commit(None)?;
        Ok(PublishedDb { path, file: self.file, missing: self.missing })
    }
}

impl PublishedDb {
    /// Takes the db away again because of `error`. What another has put in its place meanwhile is left alone.
    pub(crate) fn take_back(self, error: GenerateError) -> GenerateError {
        let is_ours = match (self.file.metadata(), fs::symlink_metadata(&self.path)) {
            (Ok(ours), Ok(there)) => (ours.dev(), ours.ino()) == (there.dev(), there.ino()),
            _ => false,
        };
        if is_ours && fs::remove_file(&self.path).is_err() {
            return GenerateError::DbStays { path: self.path, error: Box::new(error) };
        }
        for dir in &self.missing {
            // Others may have begun to use it.
            drop(fs::remove_dir(dir));
        }
        error
    }
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
        go_on(watch)?;
    }
    let file = image.into_inner();
    file.seek(SeekFrom::Start(image_bytes)).map_err(io("write the output"))?;
    file.write_all(&hash.finalize()).map_err(io("write the output"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What another puts in place of the db after it had its name is not ours to remove.
    #[test]
    fn only_our_own_db_is_taken_back() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("new/a.db");
        for replaced in [false, true] {
            let output = DbOutput { path: path.clone(), trailer: false };
            let published = DbFile::open(&output).unwrap().commit().unwrap();
            assert!(path.is_file());
            if replaced {
                fs::write(dir.path().join("other"), "theirs").unwrap();
                fs::rename(dir.path().join("other"), &path).unwrap();
            }
            let error = published.take_back(GenerateError::Interrupted);
            assert!(matches!(error, GenerateError::Interrupted), "{error}");
            assert_eq!(fs::read(&path).ok(), replaced.then(|| b"theirs".to_vec()));
            assert_eq!(dir.path().join("new").exists(), replaced);
        }
    }

    /// The kernel refuses to remove what is in `/proc`, whoever asks.
    #[test]
    fn a_db_that_cannot_be_taken_back_is_named() {
        let path = PathBuf::from("/proc/self/status");
        let published =
            PublishedDb { file: File::open(&path).unwrap(), path: path.clone(), missing: Vec::new() };
        let error = published.take_back(GenerateError::Interrupted);
        assert!(matches!(&error, GenerateError::DbStays { path: stays, .. } if *stays == path), "{error}");
        assert!(
            error.to_string().contains("/proc/self/status is whole and could not be taken away"),
            "{error}"
        );
    }
}
