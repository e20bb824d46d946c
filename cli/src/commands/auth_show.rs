//! `auth show`: users, roles and permissions, as a db has them.

use std::fmt::Write as _;
use std::path::PathBuf;

use clap::Args;
use serde_json::{Map, Value, json};
use snapshot::auth::{Auth, NO_END, Password, ROOT, Role, User, prefix_end};
use snapshot::schema::Permission;

use super::{kv_input, small_buckets};
use crate::context::Context;
use crate::exit::Failure;
use crate::outcome::{Note, Outcome};
use crate::output::{self, Cell, Format};
use crate::shown::shown;

/// Shows users, roles and permissions, and whether authentication is on
///
/// The words are those of etcdctl user get and role get. Of passwords only their bcrypt hashes are kept; --show-secrets shows
/// them. The file is only read.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  etcd-rescue auth show /var/lib/etcd")]
pub(crate) struct ShowArgs {
    /// A data dir, a db file or a snapshot
    #[arg(value_name = "FILE|DIR")]
    input: PathBuf,
    /// Show the hashes of passwords
    #[arg(long)]
    show_secrets: bool,
}

/// Shows them.
///
/// # Errors
/// When the file cannot be read or is damaged where they lie.
pub(crate) fn run(args: &ShowArgs, context: &Context) -> Result<Outcome, Failure> {
    let mut input = kv_input::open(&args.input, context)?;
    let schema = small_buckets::schema(&input)?;
    let mut auth = Auth::read(&input.db()?).map_err(|fault| small_buckets::damaged(&input, &fault))?;
    let mut outcome = Outcome { before: std::mem::take(&mut input.notes), ..Outcome::default() };
    outcome.before.extend(input.behind_its_log(&schema));
    auth.findings.extend(schema.no_key_bucket());
    outcome.note_findings(&auth.findings);
    outcome.result = match context.format {
        Format::Simple => lines(&auth, args.show_secrets),
        Format::Json => output::json(&to_json(&auth, args.show_secrets))?,
        format => {
            let status = [vec![
                Cell::new("enabled", "Enabled", &auth.enabled),
                Cell::new("auth revision", "AuthRevision", &auth.revision),
            ]];
            let users: Vec<Vec<Cell>> = auth.users.iter().map(|user| row(user, args.show_secrets)).collect();
            let permissions: Vec<Vec<Cell>> = auth.roles.iter().flat_map(permission_rows).collect();
            let mut result = output::render(format, &status, &())?;
            result += &output::render(format, &users, &())?;
            result + &output::render(format, &permissions, &())?
        }
    };
    let kept = auth.users.iter().any(|user| user.password != Password::None);
    if kept && !args.show_secrets {
        let text = "Hashes of passwords are not shown; --show-secrets shows them.";
        outcome.after.push(Note::Prose(text.to_owned()));
    }
    Ok(outcome)
}

fn text(bytes: &[u8]) -> String {
    shown(&String::from_utf8_lossy(bytes))
}

fn lines(auth: &Auth, show_secrets: bool) -> String {
    let mut out = String::new();
    // Writing to a string does not fail.
    let _ = writeln!(out, "Authentication Status: {}\nAuthRevision: {}", auth.enabled, auth.revision);
    for user in &auth.users {
        let _ = write!(out, "\nUser: {}\nRoles:", text(&user.name));
        for role in &user.roles {
            let _ = write!(out, " {}", text(role));
        }
        let _ = writeln!(out, "\nPassword: {}", password(user, show_secrets));
    }
    for role in &auth.roles {
        let _ = writeln!(out, "\nRole {}", text(&role.name));
        for (title, kinds) in [("KV Read:", [0, 2]), ("KV Write:", [1, 2])] {
            out += title;
            out.push('\n');
            if role.name == ROOT && role.permissions.is_empty() {
                out += "\t[, <open ended>\n";
            }
            for permission in role.permissions.iter().filter(|permission| kinds.contains(&permission.kind)) {
                let _ = writeln!(out, "\t{}", range(permission));
            }
        }
    }
    out
}

/// What a permission is about, in etcdctl's words.
fn range(permission: &Permission) -> String {
    let Permission { key, range_end, .. } = permission;
    if range_end.is_empty() {
        return text(key);
    }
    let mut out = if range_end == NO_END {
        format!("[{}, <open ended>", text(key))
    } else {
        format!("[{}, {})", text(key), text(range_end))
    };
    if !key.is_empty() && prefix_end(key) == *range_end {
        out += &format!(" (prefix {})", text(key));
    }
    out
}

fn password(user: &User, show_secrets: bool) -> String {
    let kept = match &user.password {
        Password::None if user.no_password => return "none, the user was added without one".to_owned(),
        Password::None => return "none".to_owned(),
        Password::Bcrypt { cost, hash } if show_secrets => format!("bcrypt, cost {cost}, {hash}"),
        Password::Bcrypt { cost, .. } => format!("bcrypt, cost {cost}"),
        Password::Unknown(bytes) if show_secrets => format!("no bcrypt hash, {}", text(bytes)),
        Password::Unknown(bytes) => format!("no bcrypt hash, {} bytes", bytes.len()),
    };
    if user.no_password { format!("{kept}, not taken: the user was added without one") } else { kept }
}

fn row(user: &User, show_secrets: bool) -> Vec<Cell> {
    let roles: Vec<String> = user.roles.iter().map(|role| text(role)).collect();
    vec![
        Cell::new("user", "User", &text(&user.name)),
        Cell::new("roles", "Roles", &roles.join(" ")),
        Cell::new("password", "Password", &password(user, show_secrets)),
    ]
}

fn permission_rows(role: &Role) -> Vec<Vec<Cell>> {
    let row = |kind: &str, what: &str| {
        vec![
            Cell::new("role", "Role", &text(&role.name)),
            Cell::new("permission", "PermType", kind),
            Cell::new("keys", "Keys", what),
        ]
    };
    if role.permissions.is_empty() {
        return vec![if role.name == ROOT { row("READWRITE", "[, <open ended>") } else { row("", "") }];
    }
    role.permissions.iter().map(|permission| row(&kind(permission), &range(permission))).collect()
}

fn kind(permission: &Permission) -> String {
    match permission.kind {
        0 => "READ".to_owned(),
        1 => "WRITE".to_owned(),
        2 => "READWRITE".to_owned(),
        other => other.to_string(),
    }
}

/// Puts bytes into an object: as a string if they are UTF-8, else in hexadecimal.
fn put_bytes(object: &mut Map<String, Value>, name: &str, bytes: &[u8]) {
    match std::str::from_utf8(bytes) {
        Ok(text) => object.insert(name.to_owned(), text.into()),
        Err(_) => {
            let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            object.insert(format!("{name}_hex"), hex.into())
        }
    };
}

fn to_json(auth: &Auth, show_secrets: bool) -> Value {
    let users: Vec<Value> = auth
        .users
        .iter()
        .map(|user| {
            let mut object = Map::new();
            put_bytes(&mut object, "name", &user.name);
            let roles: Vec<String> =
                user.roles.iter().map(|role| String::from_utf8_lossy(role).into_owned()).collect();
            object.insert("roles".to_owned(), roles.into());
            object.insert("noPassword".to_owned(), user.no_password.into());
            let mut kept = Map::new();
            match &user.password {
                Password::None => {}
                Password::Bcrypt { cost, hash } => {
                    kept.insert("kind".to_owned(), "bcrypt".into());
                    kept.insert("cost".to_owned(), (*cost).into());
                    if show_secrets {
                        kept.insert("hash".to_owned(), hash.as_str().into());
                    }
                }
                Password::Unknown(bytes) => {
                    kept.insert("kind".to_owned(), "unknown".into());
                    if show_secrets {
                        put_bytes(&mut kept, "value", bytes);
                    }
                }
            }
            let kept = if kept.is_empty() { Value::Null } else { kept.into() };
            object.insert("password".to_owned(), kept);
            object.into()
        })
        .collect();
    let roles: Vec<Value> = auth
        .roles
        .iter()
        .map(|role| {
            let mut object = Map::new();
            put_bytes(&mut object, "name", &role.name);
            let permissions: Vec<Value> = role
                .permissions
                .iter()
                .map(|permission| {
                    let mut object = Map::new();
                    object.insert("permType".to_owned(), kind(permission).into());
                    put_bytes(&mut object, "key", &permission.key);
                    put_bytes(&mut object, "range_end", &permission.range_end);
                    object.into()
                })
                .collect();
            object.insert("permissions".to_owned(), permissions.into());
            object.into()
        })
        .collect();
    json!({
        "enabled": auth.enabled,
        "authRevision": auth.revision,
        "users": users,
        "roles": roles,
        "findings": auth.findings,
    })
}
