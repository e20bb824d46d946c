//! Manifests of static pods: the container that runs etcd, and which directories of the host it has.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde_json::Value;

use super::settings::Settings;
use super::{unit, yaml};

/// The flags of each container in the manifest `text` that runs etcd, directories as the container knows them.
///
/// # Errors
/// When the manifest is beyond what is read here.
pub(super) fn read(text: &str) -> Result<Vec<Settings>, String> {
    let documents = if text.trim_start().starts_with('{') {
        vec![serde_json::from_str(text).map_err(|error| error.to_string())?]
    } else {
        yaml::read_all(text).map_err(|error| error.to_string())?
    };
    Ok(documents.iter().flat_map(of_document).collect())
}

fn list<'a>(value: &'a Value, name: &str) -> &'a [Value] {
    value.get(name).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

fn text<'a>(value: &'a Value, name: &str) -> Option<&'a str> {
    value.get(name).and_then(Value::as_str)
}

fn of_document(document: &Value) -> Vec<Settings> {
    let Some(spec) = document.get("spec") else { return Vec::new() };
    let host: BTreeMap<&str, &str> = list(spec, "volumes")
        .iter()
        .filter_map(|volume| Some((text(volume, "name")?, text(volume.get("hostPath")?, "path")?)))
        .collect();
    list(spec, "containers").iter().filter_map(|container| of_container(container, &host)).collect()
}

fn of_container(container: &Value, host: &BTreeMap<&str, &str>) -> Option<Settings> {
    let mut words = Vec::new();
    for part in ["command", "args"] {
        for word in list(container, part).iter().filter_map(Value::as_str) {
            // A script for a shell is one word of the command.
            if word.contains(char::is_whitespace) {
                words.extend(unit::words(word));
            } else {
                words.push(word.to_owned());
            }
        }
    }
    let environment: Vec<(String, String)> = list(container, "env")
        .iter()
        .filter_map(|variable| {
            Some((text(variable, "name")?.to_owned(), text(variable, "value")?.to_owned()))
        })
        .collect();
    let arguments = unit::after_etcd(&words);
    let runs_etcd = words.first().is_some_and(|first| unit::is_etcd(first)) || !arguments.is_empty();
    if !runs_etcd {
        return None;
    }
    let mut settings = Settings::of_environment(&environment);
    settings.take_arguments(arguments);
    settings.mounts = list(container, "volumeMounts")
        .iter()
        .filter_map(|mount| {
            let outside = host.get(text(mount, "name")?)?;
            Some((PathBuf::from(text(mount, "mountPath")?), PathBuf::from(outside)))
        })
        .collect();
    Some(settings)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directories_of_the_container_are_those_of_the_host() {
        let manifest = r#"{"kind": "Pod", "spec": {"containers": [
            {"command": ["sh", "-c", "echo; exec etcd --data-dir=/var/etcd/data --name $(NODE)"],
             "volumeMounts": [{"name": "etcd", "mountPath": "/var/etcd"}, {"name": "none", "mountPath": "/x"}]},
            {"command": ["kube-apiserver", "--etcd-servers=x"]}],
            "volumes": [{"name": "etcd", "hostPath": {"path": "/srv/etcd"}}, {"name": "other", "emptyDir": {}}]}}"#;
        let mut found = read(manifest).unwrap();
        assert_eq!(found.len(), 1);
        found[0].map_directories();
        assert_eq!(found[0].get("data-dir"), Some("/srv/etcd/data"));
        assert!(read("{").is_err());
        assert!(read("kind: Pod\n").unwrap().is_empty());
    }
}
