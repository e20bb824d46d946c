//! What docker keeps of a container: how RKE runs etcd, and kubespray did.

use std::path::PathBuf;

use serde_json::Value;

use super::settings::Settings;
use super::unit;

/// The name of the container that `text`, a `config.v2.json`, is about, and the flags of etcd in it; `None` when it does not run
/// etcd.
///
/// # Errors
/// When it is no JSON.
pub(super) fn read(text: &str) -> Result<Option<(String, Settings)>, String> {
    let container: Value = serde_json::from_str(text).map_err(|error| error.to_string())?;
    let strings = |value: Option<&Value>| -> Vec<String> {
        let items = value.and_then(Value::as_array).into_iter().flatten();
        items.filter_map(Value::as_str).map(str::to_owned).collect()
    };
    let mut words: Vec<String> =
        container.get("Path").and_then(Value::as_str).map(str::to_owned).into_iter().collect();
    words.extend(strings(container.get("Args")));
    let first_is_etcd = words.first().is_some_and(|first| unit::is_etcd(first));
    let arguments = unit::after_etcd(&words);
    if !first_is_etcd && arguments.is_empty() {
        return Ok(None);
    }
    let environment: Vec<(String, String)> =
        strings(container.get("Config").and_then(|config| config.get("Env")))
            .iter()
            .filter_map(|variable| variable.split_once('='))
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
    let mut settings = Settings::of_environment(&environment);
    settings.take_arguments(arguments);
    settings.working_dir = container
        .get("Config")
        .and_then(|config| config.get("WorkingDir"))
        .and_then(Value::as_str)
        .filter(|dir| !dir.is_empty())
        .map(PathBuf::from);
    let mounts = container.get("MountPoints").and_then(Value::as_object);
    for (inside, mount) in mounts.into_iter().flatten() {
        if let Some(outside) = mount.get("Source").and_then(Value::as_str).filter(|dir| dir.starts_with('/'))
        {
            settings.mounts.push((PathBuf::from(inside), PathBuf::from(outside)));
        }
    }
    let name = container.get("Name").and_then(Value::as_str).unwrap_or("without a name");
    Ok(Some((name.trim_start_matches('/').to_owned(), settings)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_container_of_etcd_is_told_from_those_beside_it() {
        let etcd = r#"{"Name": "/etcd", "Path": "/usr/local/bin/etcd",
            "Args": ["--name=etcd-a", "--data-dir=/var/lib/rancher/etcd/", "--initial-cluster=etcd-a=https://10.0.0.1:2380"],
            "Config": {"Env": ["ETCD_INITIAL_CLUSTER_TOKEN=t", "ETCDCTL_API=3"]},
            "MountPoints": {"/var/lib/rancher/etcd": {"Source": "/var/lib/etcd", "Destination": "/var/lib/rancher/etcd"}}}"#;
        let (name, mut settings) = read(etcd).unwrap().unwrap();
        settings.map_directories();
        assert_eq!((name.as_str(), settings.get("data-dir")), ("etcd", Some("/var/lib/etcd")));
        assert_eq!(settings.get("initial-cluster-token"), Some("t"));
        let beside = r#"{"Name": "/etcd-rolling-snapshots", "Path": "/opt/rke-tools/rke-etcd-backup", "Args": ["etcd-backup", "save"]}"#;
        assert_eq!(read(beside).unwrap(), None);
        assert!(read("[").is_err());
        assert_eq!(read("[]").unwrap(), None);
    }
}
