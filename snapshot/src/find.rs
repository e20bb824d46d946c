//! `inspect --find`: where etcd had its data on a disk that is mounted somewhere, by what is configured there.
//!
//! The places looked at are those in [`PLACES`]; nothing else is searched. Every path that a file names is one of the dead
//! system, so it is resolved below the mount point, symbolic links too, and never leads out of it (`root`). Files are read only
//! when they are regular and short; what a file says is taken where its form is one of those known here, and what is not
//! understood is said ([`Source::notes`]).

mod docker;
mod dotenv;
mod pod;
mod root;
mod settings;
mod unit;
mod yaml;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};

use bbolt::Watch;

pub use root::{Resolved, Root, Unresolved};
pub use settings::Settings;

/// The places that are looked at, as the dead system calls them, and what is expected there. This is the documentation, and
/// [`find`] walks exactly these.
pub const PLACES: &[(&str, &str)] = &[
    (
        "/etc/systemd/system, /run/systemd/system, /usr/local/lib/systemd/system, /usr/lib/systemd/system, /lib/systemd/system",
        "units whose ExecStart runs etcd or whose name begins with etcd, with their drop-ins, Environment and EnvironmentFile",
    ),
    ("/etc/etcd.env, /etc/etcd-events.env", "kubespray, KubeSphere (KubeKey)"),
    (
        "/etc/default/etcd*, /etc/sysconfig/etcd*, /etc/conf.d/etcd*, /etc/etcd/*.conf|*.env, /etc/etcd",
        "environment files of distributions",
    ),
    ("/etc/etcd/*.yml|*.yaml|*.conf, /etc/etcd.conf, /etc/etcd.yml", "etcd's own --config-file"),
    (
        "/etc/kubernetes/manifests, /var/lib/rancher/rke2/agent/pod-manifests, /etc/kubelet.d",
        "static pods: kubeadm, OpenShift, RKE2",
    ),
    ("/var/lib/docker/containers/*/config.v2.json", "containers that run etcd: RKE, kubespray with docker"),
    (
        "/etc/rancher/rke2/config.yaml, /etc/rancher/k3s/config.yaml, and config.yaml.d beside them",
        "RKE2 and k3s: their data-dir",
    ),
    (
        "/var/lib/rancher/rke2/server/db/etcd/config, /var/lib/rancher/k3s/server/db/etcd/config",
        "RKE2 and k3s: the file they start etcd with",
    ),
    (
        "/var/lib/etcd, /var/lib/etcd/default, /var/lib/etcd/default.etcd, /var/lib/etcd-events, /var/lib/etcd2, /var/etcd, /var/etcd/data, \
      /var/lib/rancher/etcd, /opt/rke/var/lib/etcd, /var/lib/rancher/rke2/server/db/etcd, /var/lib/rancher/k3s/server/db/etcd, \
      /var/lib/minikube/etcd, /var/lib/k0s/etcd, /data/etcd, /opt/etcd/data, /default.etcd",
        "data dirs that nothing names",
    ),
];

const UNIT_DIRS: [&str; 5] = [
    "/etc/systemd/system",
    "/run/systemd/system",
    "/usr/local/lib/systemd/system",
    "/usr/lib/systemd/system",
    "/lib/systemd/system",
];
const ENV_FILES: [&str; 2] = ["/etc/etcd.env", "/etc/etcd-events.env"];
const ENV_DIRS: [&str; 3] = ["/etc/default", "/etc/sysconfig", "/etc/conf.d"];
const CONFIG_FILES: [&str; 3] = ["/etc/etcd.conf", "/etc/etcd.yml", "/etc/etcd.yaml"];
const CONFIG_DIR: &str = "/etc/etcd";
const POD_DIRS: [&str; 3] =
    ["/etc/kubernetes/manifests", "/var/lib/rancher/rke2/agent/pod-manifests", "/etc/kubelet.d"];
const CONTAINERS: &str = "/var/lib/docker/containers";
const RANCHER: [&str; 2] = ["rke2", "k3s"];
const DATA_DIRS: [&str; 16] = [
    "/var/lib/etcd",
    "/var/lib/etcd/default",
    "/var/lib/etcd/default.etcd",
    "/var/lib/etcd-events",
    "/var/lib/etcd2",
    "/var/etcd",
    "/var/etcd/data",
    "/var/lib/rancher/etcd",
    "/opt/rke/var/lib/etcd",
    "/var/lib/rancher/rke2/server/db/etcd",
    "/var/lib/rancher/k3s/server/db/etcd",
    "/var/lib/minikube/etcd",
    "/var/lib/k0s/etcd",
    "/data/etcd",
    "/opt/etcd/data",
    "/default.etcd",
];

/// What kind of file says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// A unit of systemd.
    SystemdUnit,
    /// An environment file that no unit found here reads.
    EnvironmentFile,
    /// A file for etcd's `--config-file`.
    ConfigFile,
    /// The manifest of a static pod.
    StaticPod,
    /// What docker keeps of a container.
    Container,
    /// The configuration of RKE2 or k3s.
    Rancher,
    /// Nothing names it: a directory where one is often found.
    DefaultDirectory,
}

/// A file that says how etcd was started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// The file, or the directory that nothing names, as the dead system calls it.
    pub path: PathBuf,
    /// What kind of file it is.
    pub kind: Kind,
    /// Flags of etcd and their values, by their names without dashes, as the server would have taken them.
    pub settings: Settings,
    /// What was not understood, and what else to know.
    pub notes: Vec<String>,
}

/// A directory as the dead system calls it, and where it is now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Directory {
    /// Its name there.
    pub named: PathBuf,
    /// Where it lies below the mount point, or why it does not.
    pub resolved: Result<Resolved, Unresolved>,
}

impl Directory {
    /// Where it is on this machine, when it is there.
    #[must_use]
    pub fn there(&self) -> Option<&Path> {
        self.resolved.as_ref().ok().map(|resolved| resolved.real.as_path())
    }
}

/// A data dir, and all that names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The data dir.
    pub data_dir: Directory,
    /// The log's directory, where it has one of its own.
    pub wal_dir: Option<Directory>,
    /// What names it.
    pub sources: Vec<Source>,
    /// Links within it that lead elsewhere, for which it is not opened as if it were whole.
    pub links: Vec<String>,
}

impl Place {
    /// The first value that a source has for the flag `name`.
    #[must_use]
    pub fn setting(&self, name: &str) -> Option<&str> {
        self.sources.iter().find_map(|source| source.settings.get(name))
    }
}

/// What was found below a mount point.
#[derive(Debug)]
pub struct Found {
    /// The mount point.
    pub root: PathBuf,
    /// Data dirs, those that are there first.
    pub places: Vec<Place>,
    /// Files that could not be read or understood, and why: as the dead system calls them.
    pub passed_over: Vec<(PathBuf, String)>,
}

/// Why nothing was looked for.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FindError {
    /// The mount point is no directory that can be listed.
    #[error("{}: {source}", path.display())]
    Io {
        /// The mount point.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// The user asked to stop.
    #[error("interrupted")]
    Interrupted,
}

/// Looks below `mounted` in the places of [`PLACES`].
///
/// # Errors
/// When `mounted` cannot be listed, or the user asked to stop.
pub fn find(mounted: &Path, watch: &dyn Watch) -> Result<Found, FindError> {
    let root = Root::open(mounted).map_err(|source| FindError::Io { path: mounted.to_owned(), source })?;
    let mut search =
        Search { root: &root, sources: Vec::new(), passed_over: Vec::new(), read: BTreeSet::new() };
    for step in [Step::Units, Step::Pods, Step::Containers, Step::Rancher, Step::Environments, Step::Configs]
    {
        if watch.interrupted() {
            return Err(FindError::Interrupted);
        }
        match step {
            Step::Units => search.units(),
            Step::Pods => search.pods(),
            Step::Containers => search.containers(),
            Step::Rancher => search.rancher(),
            Step::Environments => search.environments(),
            Step::Configs => search.config_files(),
        }
    }
    search.bare_directories();
    let Search { sources, passed_over, .. } = search;
    Ok(Found { root: mounted.to_owned(), places: grouped(&root, sources), passed_over })
}

/// The flags of etcd that the text of a file of this `kind` says by itself, for each server that it starts; what it refers to is
/// not read, and directories are those of the dead system.
///
/// # Errors
/// When the text has not the form of such a file.
pub fn settings_in(kind: Kind, text: &str) -> Result<Vec<Settings>, String> {
    let mapped = |mut settings: Settings| {
        settings.map_directories();
        settings
    };
    match kind {
        Kind::SystemdUnit => {
            let mut unit = unit::Unit::default();
            unit.read(text);
            let specifiers = unit::Specifiers { unit: "etcd.service", hostname: "" };
            let environment = unit.environment(&specifiers);
            let mut settings = Settings::of_environment(&environment);
            settings.take_arguments(&unit.arguments(&specifiers, &environment));
            settings.working_dir = unit.working_dir(&specifiers);
            settings.mounts = unit.mounts(&specifiers);
            Ok(vec![mapped(settings)])
        }
        Kind::EnvironmentFile => Ok(vec![Settings::of_environment(&dotenv::read(text))]),
        Kind::ConfigFile | Kind::Rancher => yaml::read(text)
            .map(|document| vec![Settings::of_config(&document)])
            .map_err(|error| error.to_string()),
        Kind::StaticPod => Ok(pod::read(text)?.into_iter().map(mapped).collect()),
        Kind::Container => {
            Ok(docker::read(text)?.map(|(_, settings)| mapped(settings)).into_iter().collect())
        }
        Kind::DefaultDirectory => Ok(Vec::new()),
    }
}

/// The kinds of places, in the order in which they are looked at: what a unit reads is told of with the unit.
#[derive(Clone, Copy)]
enum Step {
    Units,
    Pods,
    Containers,
    Rancher,
    Environments,
    Configs,
}

/// Puts together what names the same data dir.
fn grouped(root: &Root, sources: Vec<Source>) -> Vec<Place> {
    let mut places: BTreeMap<PathBuf, Place> = BTreeMap::new();
    for source in sources {
        let Some(named) = source.settings.data_dir() else { continue };
        let directory = |named: PathBuf| Directory { resolved: root.resolve(&named), named };
        let data_dir = directory(named);
        let key = data_dir.there().map_or_else(|| data_dir.named.clone(), Path::to_owned);
        let wal_dir = source.settings.get("wal-dir").map(|dir| directory(PathBuf::from(dir)));
        let place = places.entry(key).or_insert_with(|| Place {
            links: data_dir.there().map_or_else(Vec::new, |_| root.links_within(&data_dir.named)),
            data_dir,
            wal_dir: None,
            sources: Vec::new(),
        });
        place.wal_dir = place.wal_dir.take().or(wal_dir);
        place.sources.push(source);
    }
    let mut places: Vec<Place> = places.into_values().collect();
    for place in &mut places {
        // A log directory that is a link within the data dir is as good as a flag.
        if place.wal_dir.is_none()
            && let Ok(resolved) = root.resolve(&place.data_dir.named.join("member/wal"))
            && Some(resolved.real.as_path())
                != place.data_dir.there().map(|dir| dir.join("member/wal")).as_deref()
        {
            place.wal_dir =
                Some(Directory { named: place.data_dir.named.join("member/wal"), resolved: Ok(resolved) });
        }
    }
    places.sort_by_key(|place| place.data_dir.there().is_none());
    places
}

struct Search<'a> {
    root: &'a Root,
    sources: Vec<Source>,
    passed_over: Vec<(PathBuf, String)>,
    /// Files that some unit reads, which need not be told of alone.
    read: BTreeSet<PathBuf>,
}

impl Search<'_> {
    /// The text of `path`, if it is there; why it was passed over is kept.
    fn text(&mut self, path: &Path) -> Option<String> {
        match self.root.read(path) {
            Ok(text) => {
                self.read.insert(path.to_owned());
                Some(text)
            }
            Err(Unresolved::Absent) => None,
            Err(why) => {
                self.passed_over.push((path.to_owned(), why.to_string()));
                None
            }
        }
    }

    fn names(&mut self, dir: &str) -> Vec<String> {
        match self.root.names(Path::new(dir)) {
            Ok(names) => names,
            Err(Unresolved::Absent) => Vec::new(),
            Err(why) => {
                self.passed_over.push((PathBuf::from(dir), why.to_string()));
                Vec::new()
            }
        }
    }

    fn add(&mut self, path: PathBuf, kind: Kind, settings: Settings, mut notes: Vec<String>) {
        if settings.get("data-dir").is_none() {
            notes.push("it names no data-dir: etcd takes NAME.etcd in its working directory".to_owned());
        }
        self.sources.push(Source { path, kind, settings, notes });
    }

    /// Units: of those with one name the first directory's counts, as for systemd.
    fn units(&mut self) {
        let mut known = BTreeSet::new();
        for dir in UNIT_DIRS {
            for name in self.names(dir) {
                if !name.ends_with(".service") || !known.insert(name.clone()) {
                    continue;
                }
                let path = Path::new(dir).join(&name);
                let Some(text) = self.text(&path) else { continue };
                let mut unit = unit::Unit::default();
                unit.read(&text);
                for dir in UNIT_DIRS.iter().rev() {
                    let dropins = format!("{dir}/{name}.d");
                    for dropin in self.names(&dropins).into_iter().filter(|name| name.ends_with(".conf")) {
                        if let Some(text) = self.text(&Path::new(&dropins).join(dropin)) {
                            unit.read(&text);
                        }
                    }
                }
                self.unit(path, &name, &unit);
            }
        }
    }

    fn unit(&mut self, path: PathBuf, name: &str, unit: &unit::Unit) {
        if !unit.runs_etcd(name) {
            return;
        }
        let hostname = self.text(Path::new("/etc/hostname")).unwrap_or_default();
        let specifiers = unit::Specifiers { unit: name, hostname: hostname.trim() };
        let mut notes = Vec::new();
        let mut environment = unit.environment(&specifiers);
        for (file, optional) in unit.environment_files(&specifiers) {
            match self.text(&file) {
                Some(text) => environment.extend(dotenv::read(&text)),
                None if optional => {}
                None => notes.push(format!("its EnvironmentFile {} is not there", file.display())),
            }
        }
        let mut settings = Settings::of_environment(&environment);
        settings.take_arguments(&unit.arguments(&specifiers, &environment));
        settings.working_dir = unit.working_dir(&specifiers);
        settings.mounts = unit.mounts(&specifiers);
        self.follow_config_file(&mut settings, &mut notes);
        settings.map_directories();
        self.add(path, Kind::SystemdUnit, settings, notes);
    }

    /// Where `--config-file` is given, etcd takes nothing but that file.
    fn follow_config_file(&mut self, settings: &mut Settings, notes: &mut Vec<String>) {
        let Some(file) = settings.get("config-file").map(PathBuf::from) else { return };
        let file = settings.mapped(&file);
        let Some(text) = self.text(&file) else {
            notes.push(format!("its --config-file {} is not there or not readable", file.display()));
            return;
        };
        match yaml::read(&text) {
            Ok(document) => {
                notes.push(format!("all flags are those of its --config-file {}", file.display()));
                settings.replace_by(Settings::of_config(&document));
            }
            Err(error) => notes.push(format!("its --config-file {}: {error}", file.display())),
        }
    }

    fn pods(&mut self) {
        for dir in POD_DIRS {
            for name in self.names(dir) {
                if ![".yaml", ".yml", ".json", ".manifest"].iter().any(|end| name.ends_with(end)) {
                    continue;
                }
                let path = Path::new(dir).join(name);
                let Some(text) = self.text(&path) else { continue };
                if !text.contains("etcd") {
                    continue;
                }
                match pod::read(&text) {
                    Ok(containers) => {
                        for mut settings in containers {
                            let mut notes = Vec::new();
                            self.follow_config_file(&mut settings, &mut notes);
                            settings.map_directories();
                            self.add(path.clone(), Kind::StaticPod, settings, notes);
                        }
                    }
                    Err(error) => self.passed_over.push((path, error)),
                }
            }
        }
    }

    fn containers(&mut self) {
        for name in self.names(CONTAINERS) {
            let dir = Path::new(CONTAINERS).join(name);
            let path = dir.join("config.v2.json");
            let Some(text) = self.text(&path) else { continue };
            match docker::read(&text) {
                Ok(Some((container, mut settings))) => {
                    let mut notes = vec![format!("container {container}")];
                    self.follow_config_file(&mut settings, &mut notes);
                    settings.map_directories();
                    self.add(path, Kind::Container, settings, notes);
                }
                Ok(None) => {}
                Err(error) => self.passed_over.push((path, error)),
            }
        }
    }

    fn rancher(&mut self) {
        for product in RANCHER {
            let mut base = PathBuf::from(format!("/var/lib/rancher/{product}"));
            let mut from = None;
            let mut files = vec![PathBuf::from(format!("/etc/rancher/{product}/config.yaml"))];
            let more = format!("/etc/rancher/{product}/config.yaml.d");
            files.extend(self.names(&more).into_iter().map(|name| Path::new(&more).join(name)));
            for file in files {
                let Some(text) = self.text(&file) else { continue };
                match yaml::read(&text) {
                    Ok(document) => {
                        if let Some(dir) = document.get("data-dir").and_then(serde_json::Value::as_str) {
                            base = PathBuf::from(dir);
                            from = Some(file);
                        }
                    }
                    Err(error) => self.passed_over.push((file, error.to_string())),
                }
            }
            let data_dir = base.join("server/db/etcd");
            let config = data_dir.join("config");
            if let Some(text) = self.text(&config) {
                match yaml::read(&text) {
                    Ok(document) => {
                        let mut settings = Settings::of_config(&document);
                        settings.set_default("data-dir", &data_dir.to_string_lossy());
                        let notes = vec![format!("{product} writes this file each time it starts etcd")];
                        self.add(config, Kind::Rancher, settings, notes);
                    }
                    Err(error) => self.passed_over.push((config, error.to_string())),
                }
            } else if let Some(file) = from {
                let mut settings = Settings::default();
                settings.set_default("data-dir", &data_dir.to_string_lossy());
                self.add(file, Kind::Rancher, settings, vec![format!("by the data-dir of {product}")]);
            }
        }
    }

    fn environments(&mut self) {
        let mut files: Vec<PathBuf> = ENV_FILES.iter().map(PathBuf::from).collect();
        for dir in ENV_DIRS {
            let names = self.names(dir).into_iter().filter(|name| name.starts_with("etcd"));
            files.extend(names.map(|name| Path::new(dir).join(name)));
        }
        let names = self.names(CONFIG_DIR);
        let of_etcd = names.into_iter().filter(|name| name.ends_with(".conf") || name.ends_with(".env"));
        files.extend(of_etcd.map(|name| Path::new(CONFIG_DIR).join(name)));
        for file in files {
            if self.read.contains(&file) {
                continue;
            }
            let Some(text) = self.text(&file) else { continue };
            let settings = Settings::of_environment(&dotenv::read(&text));
            if settings.is_empty() {
                // Perhaps one for --config-file, whatever its name ends in.
                self.read.remove(&file);
            } else {
                self.add(file, Kind::EnvironmentFile, settings, Vec::new());
            }
        }
    }

    fn config_files(&mut self) {
        let mut files: Vec<PathBuf> = CONFIG_FILES.iter().map(PathBuf::from).collect();
        let names = self.names(CONFIG_DIR).into_iter();
        let of_etcd = names.filter(|name| [".yml", ".yaml", ".conf"].iter().any(|end| name.ends_with(end)));
        files.extend(of_etcd.map(|name| Path::new(CONFIG_DIR).join(name)));
        for file in files {
            if self.read.contains(&file) {
                continue;
            }
            let Some(text) = self.text(&file) else { continue };
            match yaml::read(&text) {
                Ok(document) => {
                    let settings = Settings::of_config(&document);
                    if !settings.is_empty() {
                        self.add(file, Kind::ConfigFile, settings, Vec::new());
                    }
                }
                Err(error) => self.passed_over.push((file, error.to_string())),
            }
        }
    }

    /// Data dirs that nothing names.
    fn bare_directories(&mut self) {
        let named: BTreeSet<PathBuf> = self
            .sources
            .iter()
            .filter_map(|source| self.root.resolve(&source.settings.data_dir()?).ok())
            .map(|resolved| resolved.real)
            .collect();
        for dir in DATA_DIRS {
            let Ok(resolved) = self.root.resolve(Path::new(dir)) else { continue };
            let has_member =
                self.root.resolve(&Path::new(dir).join("member")).is_ok_and(|member| member.is_dir);
            if !has_member || named.contains(&resolved.real) {
                continue;
            }
            let mut settings = Settings::default();
            settings.set_default("data-dir", dir);
            self.add(PathBuf::from(dir), Kind::DefaultDirectory, settings, Vec::new());
        }
    }
}
