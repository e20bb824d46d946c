//! Units of systemd, as far as they say how etcd is started.

use std::path::{Path, PathBuf};

/// What a unit and its drop-ins say under `[Service]`.
#[derive(Debug, Default)]
pub(super) struct Unit {
    starts: Vec<String>,
    environment: Vec<String>,
    environment_files: Vec<String>,
    working_dir: Option<String>,
}

/// What stands for `%…` in a unit.
pub(super) struct Specifiers<'a> {
    /// The unit's name, `etcd@1.service`.
    pub(super) unit: &'a str,
    /// The dead system's host name.
    pub(super) hostname: &'a str,
}

impl Specifiers<'_> {
    fn fill(&self, text: &str) -> String {
        let stem = self.unit.strip_suffix(".service").unwrap_or(self.unit);
        let (prefix, instance) = stem.split_once('@').unwrap_or((stem, ""));
        let mut out = String::new();
        let mut chars = text.chars();
        while let Some(c) = chars.next() {
            if c != '%' {
                out.push(c);
                continue;
            }
            match chars.next() {
                Some('p') => out += prefix,
                Some('i' | 'I') => out += instance,
                Some('n') => out += self.unit,
                Some('N') => out += stem,
                Some('H' | 'l') => out += self.hostname,
                Some('%') | None => out.push('%'),
                Some(other) => out.extend(['%', other]),
            }
        }
        out
    }
}

/// Words that begin a program's name in ExecStart and do not belong to it.
const PREFIXES: [char; 5] = ['-', '@', ':', '+', '!'];

impl Unit {
    /// Reads the text of a unit or of a drop-in; an empty assignment takes back what was assigned before.
    pub(super) fn read(&mut self, text: &str) {
        let mut in_service = false;
        let mut lines = text.lines();
        while let Some(line) = lines.next() {
            let mut line = line.trim().to_owned();
            if line.starts_with(['#', ';']) {
                continue;
            }
            while line.ends_with('\\') {
                line.pop();
                // Comments between lines that belong together are left out.
                match lines.by_ref().map(str::trim).find(|next| !next.starts_with(['#', ';'])) {
                    Some(next) => {
                        line.push(' ');
                        line += next;
                    }
                    None => break,
                }
            }
            if line.starts_with('[') {
                in_service = line == "[Service]";
                continue;
            }
            let Some((name, value)) = line.split_once('=').filter(|_| in_service) else { continue };
            let (name, value) = (name.trim(), value.trim());
            let list = match name {
                "ExecStart" => &mut self.starts,
                "Environment" => &mut self.environment,
                "EnvironmentFile" => &mut self.environment_files,
                "WorkingDirectory" => {
                    self.working_dir = Some(value.to_owned()).filter(|value| !value.is_empty());
                    continue;
                }
                _ => continue,
            };
            if value.is_empty() {
                list.clear();
            } else {
                list.push(value.to_owned());
            }
        }
    }

    /// Whether it starts etcd, itself or in a container.
    pub(super) fn runs_etcd(&self, name: &str) -> bool {
        let named = name == "etcd.service" || name == "etcd2.service" || name.starts_with("etcd@");
        let starts_it = |words: Vec<String>| {
            let flag_behind = |at: usize| words.get(at + 1).is_some_and(|next| next.starts_with('-'));
            words.iter().enumerate().any(|(at, word)| is_etcd(word) && (at == 0 || flag_behind(at)))
        };
        named || self.starts.iter().any(|start| starts_it(words(start)))
    }

    /// What `Environment` assigns.
    pub(super) fn environment(&self, specifiers: &Specifiers<'_>) -> Vec<(String, String)> {
        let words = self.environment.iter().flat_map(|line| words(&specifiers.fill(line)));
        words.filter_map(|word| word.split_once('=').map(|(n, v)| (n.to_owned(), v.to_owned()))).collect()
    }

    /// The environment files it reads, each with whether it may be missing; those of a container too.
    pub(super) fn environment_files(&self, specifiers: &Specifiers<'_>) -> Vec<(PathBuf, bool)> {
        let own = self.environment_files.iter().map(|file| {
            let file = specifiers.fill(file);
            let path = file.strip_prefix('-');
            (PathBuf::from(path.unwrap_or(&file)), path.is_some())
        });
        let of_container = self.starts.iter().flat_map(|start| words(&specifiers.fill(start)));
        let of_container = of_container
            .filter_map(|word| word.strip_prefix("--env-file=").map(|file| (PathBuf::from(file), false)));
        own.chain(of_container).collect()
    }

    /// The arguments of etcd, with the variables of `environment` filled in.
    pub(super) fn arguments(
        &self,
        specifiers: &Specifiers<'_>,
        environment: &[(String, String)],
    ) -> Vec<String> {
        let Some(start) = self.starts.last() else { return Vec::new() };
        let words: Vec<String> =
            words(&specifiers.fill(start)).iter().map(|word| expanded(word, environment)).collect();
        after_etcd(&words).to_vec()
    }

    /// The directories of the container that it starts etcd in, with what they are outside of it.
    pub(super) fn mounts(&self, specifiers: &Specifiers<'_>) -> Vec<(PathBuf, PathBuf)> {
        let Some(start) = self.starts.last() else { return Vec::new() };
        let words = words(&specifiers.fill(start));
        let mut mounts = Vec::new();
        for (at, word) in words.iter().enumerate() {
            let value = match word.as_str() {
                "-v" | "--volume" => words.get(at + 1).map(String::as_str),
                _ => word.strip_prefix("--volume=").or_else(|| word.strip_prefix("-v=")),
            };
            let mut parts = value.unwrap_or_default().split(':');
            if let (Some(outside), Some(inside)) = (parts.next(), parts.next())
                && outside.starts_with('/')
            {
                mounts.push((PathBuf::from(inside), PathBuf::from(outside)));
            }
        }
        mounts
    }

    /// Where it starts.
    pub(super) fn working_dir(&self, specifiers: &Specifiers<'_>) -> Option<PathBuf> {
        let dir = specifiers.fill(self.working_dir.as_deref()?);
        Some(PathBuf::from(dir.strip_prefix('-').unwrap_or(&dir)))
    }
}

/// Whether `word` is etcd as a program.
pub(super) fn is_etcd(word: &str) -> bool {
    let program = word.trim_start_matches(PREFIXES);
    // A word with a dash in front is a flag.
    !word.starts_with("--") && Path::new(program).file_name().is_some_and(|name| name == "etcd")
}

/// The words behind the one that is etcd; a directory of that name in front of it is passed over. Without one none.
pub(super) fn after_etcd(words: &[String]) -> &[String] {
    let begins =
        |at: &usize| words.get(at + 1).is_none_or(|next| next.starts_with('-') || next.starts_with('$'));
    let mut places = (0..words.len()).filter(|at| words.get(*at).is_some_and(|word| is_etcd(word)));
    places.find(begins).and_then(|at| words.get(at + 1..)).unwrap_or_default()
}

/// `text` in words, as systemd and shells split it: quotes, backslashes, white space.
pub(super) fn words(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match (quote, c) {
            (None, '"' | '\'') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (Some(open), c) if c == open => quote = None,
            (Some('\''), c) => word.get_or_insert_default().push(c),
            // Behind a backslash a line goes on, and anything else is meant as it stands.
            (_, '\\') => match chars.next() {
                Some('\n') | None => {}
                Some(next) => word.get_or_insert_default().push(next),
            },
            (None, c) if c.is_whitespace() => words.extend(word.take()),
            (_, c) => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words
}

/// `word` with `$NAME` and `${NAME}` filled in; what is not known stays as it stands, so that it is seen.
fn expanded(word: &str, environment: &[(String, String)]) -> String {
    let value =
        |name: &str| environment.iter().rev().find(|(known, _)| known == name).map(|(_, v)| v.as_str());
    let mut out = String::new();
    let mut rest = word;
    while let Some((before, after)) = rest.split_once('$') {
        out += before;
        let (name, behind) = match after.strip_prefix('{').and_then(|after| after.split_once('}')) {
            Some(braced) => braced,
            None => {
                let end = after.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(after.len());
                after.split_at(end)
            }
        };
        match value(name) {
            Some(value) => {
                out += value;
                rest = behind;
            }
            None => {
                out.push('$');
                rest = after;
            }
        }
    }
    out + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAMED: Specifiers<'static> = Specifiers { unit: "etcd@two.service", hostname: "host-a" };

    #[test]
    fn a_unit_and_its_drop_in_are_one() {
        let mut unit = Unit::default();
        unit.read(
            "[Unit]\nExecStart=/no\n[Service]\nEnvironment=ETCD_NAME=%H \"ETCD_INITIAL_CLUSTER=a=http://a:1 \"\n\
             EnvironmentFile=-/etc/default/%p\nWorkingDirectory=/var/lib/etcd\n\
             ExecStart=/usr/bin/etcd \\\n  # said\n  --data-dir=${DIR}/%i \\\n  --wal-dir $WAL\n",
        );
        let environment = [("DIR".to_owned(), "/data".to_owned()), ("WAL".to_owned(), "/wal".to_owned())];
        assert!(unit.runs_etcd("x.service"));
        assert_eq!(unit.arguments(&NAMED, &environment), ["--data-dir=/data/two", "--wal-dir", "/wal"]);
        assert_eq!(unit.environment(&NAMED)[0], ("ETCD_NAME".to_owned(), "host-a".to_owned()));
        assert_eq!(unit.environment_files(&NAMED), [(PathBuf::from("/etc/default/etcd"), true)]);
        assert_eq!(unit.working_dir(&NAMED), Some(PathBuf::from("/var/lib/etcd")));
        unit.read("[Service]\nExecStart=\nExecStart=/opt/etcd --data-dir /other --x=$NONE");
        assert_eq!(unit.arguments(&NAMED, &environment), ["--data-dir", "/other", "--x=$NONE"]);
    }

    #[test]
    fn a_container_in_a_unit_has_mounts_and_environment_files() {
        let mut unit = Unit::default();
        unit.read(
            "[Service]\nExecStart=/usr/bin/docker run --env-file=/etc/etcd.env -v /srv/etcd:/data:rw --name etcd \
             quay.io/coreos/etcd:v3.5.0 /usr/local/bin/etcd --data-dir=/data\n",
        );
        assert_eq!(unit.arguments(&NAMED, &[]), ["--data-dir=/data"]);
        assert_eq!(unit.mounts(&NAMED), [(PathBuf::from("/data"), PathBuf::from("/srv/etcd"))]);
        assert_eq!(unit.environment_files(&NAMED), [(PathBuf::from("/etc/etcd.env"), false)]);
    }

    #[test]
    fn other_units_are_left_alone() {
        for start in [
            "/bin/tar cf /x /opt/etcd",
            "/usr/bin/etcd-backup --to /x",
            "/usr/bin/backup --etcd=/x",
            "/bin/tool --dir=/opt/etcd",
        ] {
            let mut unit = Unit::default();
            unit.read(&format!("[Service]\nExecStart={start}"));
            assert!(!unit.runs_etcd("etcd-backup.service"), "{start}");
        }
    }

    #[test]
    fn an_endless_line_ends() {
        let mut unit = Unit::default();
        unit.read("[Service]\nExecStart=etcd \\");
        unit.read(&"\\\n".repeat(1000));
        assert_eq!(expanded("$$${", &[]), "$$${");
        assert_eq!(words("a 'b c' \"d\\\"e\" ''"), ["a", "b c", "d\"e", ""]);
    }
}
