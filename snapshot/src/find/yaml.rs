//! As much of YAML as the files have that are looked for: block maps and lists, plain and quoted scalars, lists on one line, block
//! scalars, comments.
//!
//! Every scalar is text, whatever it looks like. What goes beyond that (anchors, tags, maps on one line, tabs) is an error with its
//! line, so that nothing is taken for what it is not. There is no recursion, and depth is capped.

use serde_json::{Map, Value};

/// Deepest nesting.
const MOST_DEPTH: usize = 64;

/// What is not read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line} is not read: {why}")]
pub(super) struct YamlError {
    /// The line, from 1.
    line: usize,
    why: &'static str,
}

/// A map or a list that is not complete yet.
enum Open {
    Map { indent: usize, map: Map<String, Value>, key: Option<String> },
    List { indent: usize, items: Vec<Value>, waits: bool },
}

impl Open {
    fn indent(&self) -> usize {
        match self {
            Self::Map { indent, .. } | Self::List { indent, .. } => *indent,
        }
    }

    fn take(&mut self, value: Value) {
        match self {
            Self::Map { map, key, .. } => {
                if let Some(key) = key.take() {
                    map.insert(key, value);
                }
            }
            Self::List { items, waits, .. } => {
                items.push(value);
                *waits = false;
            }
        }
    }

    /// Whether a value belongs here: behind a key, or behind a dash.
    fn waits(&self) -> bool {
        match self {
            Self::Map { key, .. } => key.is_some(),
            Self::List { waits, .. } => *waits,
        }
    }

    fn close(self) -> Value {
        match self {
            Self::Map { mut map, key, .. } => {
                if let Some(key) = key {
                    map.insert(key, Value::Null);
                }
                Value::Object(map)
            }
            Self::List { items, .. } => Value::Array(items),
        }
    }
}

/// The first document in `text`.
///
/// # Errors
/// At the first line that is beyond what is read here.
pub(super) fn read(text: &str) -> Result<Value, YamlError> {
    Ok(read_all(text)?.into_iter().next().unwrap_or(Value::Null))
}

/// All documents in `text`.
///
/// # Errors
/// As [`read`].
pub(super) fn read_all(text: &str) -> Result<Vec<Value>, YamlError> {
    let mut reader = Reader { documents: Vec::new(), open: Vec::new(), scalar: None, line: 0 };
    let mut lines = text.lines().enumerate().peekable();
    while let Some((at, line)) = lines.next() {
        reader.line = at + 1;
        let content = line.trim_start_matches(' ');
        if content.trim().is_empty() || content.starts_with('#') {
            continue;
        }
        if content.starts_with('\t') {
            return Err(reader.error("it is indented with a tab"));
        }
        let indent = line.len() - content.len();
        if indent == 0 && (line.starts_with("---") || line.trim_end() == "...") {
            reader.end_document();
            continue;
        }
        if indent == 0 && line.starts_with('%') {
            continue;
        }
        if let Some(style) = reader.take(indent, content.trim_end())? {
            let mut block = String::new();
            while let Some((_, next)) = lines.next_if(|(_, next)| {
                next.trim().is_empty() || next.len() - next.trim_start_matches(' ').len() > style.indent
            }) {
                block += next.trim();
                block.push(if style.folded { ' ' } else { '\n' });
            }
            reader.scalar = None;
            if let Some(top) = reader.open.last_mut() {
                top.take(Value::String(block));
            }
        }
    }
    reader.end_document();
    Ok(reader.documents)
}

/// A block scalar begins: what is indented deeper than this belongs to it.
struct Block {
    indent: usize,
    folded: bool,
}

struct Reader {
    documents: Vec<Value>,
    open: Vec<Open>,
    /// A plain scalar that the next line may go on with, deeper than this.
    scalar: Option<(String, usize)>,
    line: usize,
}

impl Reader {
    fn error(&self, why: &'static str) -> YamlError {
        YamlError { line: self.line, why }
    }

    /// The scalar that was read is complete.
    fn end_scalar(&mut self) {
        if let Some((text, _)) = self.scalar.take()
            && let Some(top) = self.open.last_mut()
        {
            top.take(Value::String(text));
        }
    }

    fn close_last(&mut self) {
        let Some(last) = self.open.pop() else { return };
        let value = last.close();
        match self.open.last_mut() {
            Some(top) => top.take(value),
            None => self.documents.push(value),
        }
    }

    fn end_document(&mut self) {
        self.end_scalar();
        while !self.open.is_empty() {
            self.close_last();
        }
    }

    /// Takes one line's content, which begins in column `indent`.
    fn take(&mut self, mut indent: usize, mut content: &str) -> Result<Option<Block>, YamlError> {
        let is_item = |content: &str| content == "-" || content.starts_with("- ");
        if let Some((text, deeper)) = &mut self.scalar
            && indent > *deeper
            && !is_item(content)
            && key_of(content).is_none()
        {
            text.push(' ');
            *text += without_comment(content);
            return Ok(None);
        }
        self.end_scalar();
        while is_item(content) {
            self.item_at(indent)?;
            let rest = content.get(1..).unwrap_or_default();
            let inner = rest.trim_start_matches(' ');
            if inner.is_empty() || inner.starts_with('#') {
                return Ok(None);
            }
            indent += content.len() - inner.len();
            content = inner;
        }
        let Some((key, value)) = key_of(content) else {
            return self.value(content, indent.saturating_sub(1));
        };
        self.key_at(indent, key)?;
        let value = value.trim_start();
        if value.is_empty() || value.starts_with('#') {
            return Ok(None);
        }
        self.value(value, indent)
    }

    /// An item of a list begins in column `indent`.
    fn item_at(&mut self, indent: usize) -> Result<(), YamlError> {
        while self.open.last().is_some_and(|top| top.indent() > indent) {
            self.close_last();
        }
        match self.open.last_mut() {
            Some(Open::List { indent: at, waits, items }) if *at == indent => {
                if *waits {
                    items.push(Value::Null);
                }
                *waits = true;
                Ok(())
            }
            Some(top) if !top.waits() => Err(self.error("a list where none belongs")),
            Some(_) | None => self.push(Open::List { indent, items: Vec::new(), waits: true }),
        }
    }

    /// The key of a map begins in column `indent`.
    fn key_at(&mut self, indent: usize, key: String) -> Result<(), YamlError> {
        while self.open.last().is_some_and(|top| {
            top.indent() > indent || (top.indent() == indent && matches!(top, Open::List { .. }))
        }) {
            self.close_last();
        }
        match self.open.last_mut() {
            Some(Open::Map { indent: at, map, key: open }) if *at == indent => {
                if let Some(open) = open.take() {
                    map.insert(open, Value::Null);
                }
                *open = Some(key);
                Ok(())
            }
            Some(top) if !top.waits() => Err(self.error("a key where none belongs")),
            Some(_) | None => self.push(Open::Map { indent, map: Map::new(), key: Some(key) }),
        }
    }

    fn push(&mut self, open: Open) -> Result<(), YamlError> {
        if self.open.len() >= MOST_DEPTH {
            return Err(self.error("it is nested too deep"));
        }
        self.open.push(open);
        Ok(())
    }

    /// A value stands behind a key or a dash; what is indented deeper than `deeper` may go on with it.
    fn value(&mut self, value: &str, deeper: usize) -> Result<Option<Block>, YamlError> {
        if !self.open.last().is_some_and(Open::waits) {
            return Err(self.error("a text where a key or a list was expected"));
        }
        let scalar = match value.as_bytes().first() {
            Some(b'|' | b'>') => {
                return Ok(Some(Block { indent: deeper, folded: value.starts_with('>') }));
            }
            Some(b'"' | b'\'') => match quoted(value) {
                Some(text) => Value::String(text),
                None => return Err(self.error("a quoted text over several lines")),
            },
            Some(b'[') => match list_of(without_comment(value)) {
                Some(items) => Value::Array(items),
                None => return Err(self.error("a list over several lines, or within another")),
            },
            Some(b'{') if without_comment(value) == "{}" => Value::Object(Map::new()),
            Some(b'{') => return Err(self.error("a map on one line")),
            Some(b'&' | b'*' | b'!') => return Err(self.error("an anchor, alias or tag")),
            _ => {
                self.scalar = Some((without_comment(value).to_owned(), deeper));
                return Ok(None);
            }
        };
        if let Some(top) = self.open.last_mut() {
            top.take(scalar);
        }
        Ok(None)
    }
}

/// `text` up to a comment.
fn without_comment(text: &str) -> &str {
    text.find(" #").and_then(|at| text.get(..at)).unwrap_or(text).trim_end()
}

/// The key that `content` begins with, and what stands behind it.
fn key_of(content: &str) -> Option<(String, &str)> {
    if content.starts_with(['"', '\'']) {
        let end = quoted_end(content)?;
        let rest = content.get(end..)?.strip_prefix(':')?;
        let separated = rest.is_empty() || rest.starts_with(' ');
        return separated.then(|| Some((quoted(content.get(..end)?)?, rest)))?;
    }
    let colon = content.find(": ").or_else(|| content.ends_with(':').then(|| content.len() - 1))?;
    let key = content.get(..colon)?;
    let plain = !key.is_empty()
        && !key.starts_with(['[', '{', '&', '*', '!', '|', '>', '#', '-'])
        && !key.contains(" #");
    let or_flag = key.starts_with('-') && !key.starts_with("- ") && !key.starts_with("--") && key.len() > 1;
    (plain || or_flag).then(|| (key.trim_end().to_owned(), content.get(colon + 1..).unwrap_or_default()))
}

/// Where the quoted text that `content` begins with ends.
fn quoted_end(content: &str) -> Option<usize> {
    let quote = content.chars().next()?;
    let mut chars = content.char_indices().skip(1).peekable();
    while let Some((at, c)) = chars.next() {
        if c == '\\' && quote == '"' {
            chars.next();
        } else if c == quote {
            if quote == '\'' && chars.peek().is_some_and(|(_, next)| *next == '\'') {
                chars.next();
                continue;
            }
            return Some(at + 1);
        }
    }
    None
}

/// The quoted text that `content` is, but for a comment behind it.
fn quoted(content: &str) -> Option<String> {
    let end = quoted_end(content)?;
    let behind = content.get(end..)?.trim_start();
    if !behind.is_empty() && !behind.starts_with('#') {
        return None;
    }
    let inner = content.get(1..end.checked_sub(1)?)?;
    if content.starts_with('\'') {
        return Some(inner.replace("''", "'"));
    }
    let mut out = String::new();
    let mut chars = inner.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            out.push(c);
            continue;
        }
        match chars.next() {
            Some('n') => out.push('\n'),
            Some('t') => out.push('\t'),
            Some(c @ ('"' | '\\' | '/')) => out.push(c),
            other => {
                out.push('\\');
                out.extend(other);
            }
        }
    }
    Some(out)
}

/// The scalars of a list on one line.
fn list_of(value: &str) -> Option<Vec<Value>> {
    let mut rest = value.strip_prefix('[')?.strip_suffix(']')?.trim();
    let mut items = Vec::new();
    while !rest.is_empty() {
        let end = if rest.starts_with(['"', '\'']) {
            quoted_end(rest)?
        } else {
            rest.find(',').unwrap_or(rest.len())
        };
        let item = rest.get(..end)?.trim();
        if item.starts_with(['[', '{']) {
            return None;
        }
        let text = if item.starts_with(['"', '\'']) { quoted(item)? } else { item.to_owned() };
        items.push(Value::String(text));
        rest = rest.get(end..)?.trim_start();
        rest = match rest.strip_prefix(',') {
            Some(rest) => rest.trim_start(),
            None if rest.is_empty() => rest,
            None => return None,
        };
    }
    Some(items)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_manifest_is_read() {
        let text = "\
# said
apiVersion: v1
kind: Pod
metadata:
  annotations:
    kubeadm.kubernetes.io/etcd.advertise-client-urls: https://10.0.0.1:2379
  name: \"etcd\"   # its name
spec:
  containers:
  - command:
    - etcd
    - --data-dir=/var/lib/etcd
    - --initial-cluster=a=https://10.0.0.1:2380,b=https://10.0.0.2:2380
    - 'quoted: it''s'
    args: [\"--name=a\", --x, 'y']
    env:
    - name: A
      value: ''
    -
      name: B
    livenessProbe:
      failureThreshold: 8
    resources: {}
  - name: second
  volumes:
    - hostPath:
        path: /var/lib/etcd
        type: DirectoryOrCreate
      name: etcd-data
status: {}
---
second: document
script: |
  set -e
    exec etcd --name=x

after: plain text
  that goes on
";
        let read = read_all(text).unwrap();
        assert_eq!(
            read[0],
            json!({
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": {
                    "annotations": {
                        "kubeadm.kubernetes.io/etcd.advertise-client-urls": "https://10.0.0.1:2379",
                    },
                    "name": "etcd",
                },
                "spec": {
                    "containers": [
                        {
                            "command": [
                                "etcd",
                                "--data-dir=/var/lib/etcd",
                                "--initial-cluster=a=https://10.0.0.1:2380,b=https://10.0.0.2:2380",
                                "quoted: it's",
                            ],
                            "args": ["--name=a", "--x", "y"],
                            "env": [{ "name": "A", "value": "" }, { "name": "B" }],
                            "livenessProbe": { "failureThreshold": "8" },
                            "resources": {},
                        },
                        { "name": "second" },
                    ],
                    "volumes": [
                        { "hostPath": { "path": "/var/lib/etcd", "type": "DirectoryOrCreate" }, "name": "etcd-data" },
                    ],
                },
                "status": {},
            })
        );
        assert_eq!(
            read[1],
            json!({
                "second": "document",
                "script": "set -e\nexec etcd --name=x\n\n",
                "after": "plain text that goes on",
            })
        );
    }

    #[test]
    fn what_goes_beyond_is_an_error_with_its_line() {
        for (text, line) in [
            ("a: 1\n\tb: 2\n", 2),
            ("a: &x 1\n", 1),
            ("a: {b: c}\n", 1),
            ("a:\n- b\n  c: d\n", 3),
            ("a: \"b\n", 1),
            ("a: [b,\n", 1),
            ("just text\n", 1),
        ] {
            assert_eq!(read(text).unwrap_err().line, line, "{text:?}");
        }
        let deep: String = (0..100).map(|level| format!("{}a:\n", " ".repeat(level))).collect();
        assert!(read(&deep).is_err());
        assert_eq!(read("").unwrap(), Value::Null);
    }
}
