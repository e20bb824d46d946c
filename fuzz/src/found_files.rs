//! Files found on a dead disk: whatever their text is, reading them ends, and what they name stays within the root.

use std::path::Path;

use snapshot::find::{Kind, Root, settings_in};

const KINDS: [Kind; 7] = [
    Kind::SystemdUnit,
    Kind::EnvironmentFile,
    Kind::ConfigFile,
    Kind::StaticPod,
    Kind::Container,
    Kind::Rancher,
    Kind::DefaultDirectory,
];

/// Reads the text as each kind of file.
pub(crate) fn all(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    // The directory of the tests: that anything leads out of it would show.
    let root = Root::open(Path::new(env!("CARGO_MANIFEST_DIR"))).ok();
    for kind in KINDS {
        for settings in settings_in(kind, &text).into_iter().flatten() {
            assert!(settings.iter().all(|(name, value)| settings.get(name) == Some(value)));
            let Some(dir) = settings.data_dir() else { continue };
            if let Some(root) = &root
                && let Ok(resolved) = root.resolve(&dir)
            {
                let within = Path::new(env!("CARGO_MANIFEST_DIR")).canonicalize();
                assert!(within.is_ok_and(|within| resolved.real.starts_with(within)), "{dir:?}");
            }
        }
    }
}
