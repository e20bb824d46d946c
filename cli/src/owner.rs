//! `--owner USER[:GROUP]`, resolved from `/etc/passwd` and `/etc/group`: a static binary has no name service to ask.

use std::fs;

use snapshot::restore::Owner;

/// The user and group databases, as text.
#[derive(Debug, Clone, Default)]
pub(crate) struct Accounts {
    passwd: String,
    group: String,
}

impl Accounts {
    /// Those of this system; a missing file knows nobody.
    pub(crate) fn of_system() -> Self {
        let read = |path| fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        Self {
            passwd: read("/etc/passwd").unwrap_or_default(),
            group: read("/etc/group").unwrap_or_default(),
        }
    }

    /// Whom `text` names, as for chown: `USER` leaves the group alone, `USER:` means the user's own, `USER:GROUP` that one;
    /// each is a name or a number.
    ///
    /// # Errors
    /// The message says which part is not known.
    pub(crate) fn resolve(&self, text: &str) -> Result<Owner, String> {
        let user = text.split(':').next().unwrap_or(text);
        if user.is_empty() {
            return Err(format!("--owner {text:?}: the user is missing; it is USER or USER:GROUP"));
        }
        // Names win over numbers, as in chown.
        let account = self.passwd.lines().map(fields).find(|entry| entry.first() == Some(&user));
        let uid = match &account {
            Some(entry) => number(entry, 2),
            None => user.parse().ok(),
        };
        let Some(uid) = uid else {
            return Err(format!(
                "--owner {text:?}: there is no user {user:?} in /etc/passwd; give its number instead"
            ));
        };
        let gid = match text.split_once(':') {
            None => None,
            Some((_, "")) => Some(self.own_group(text, user, uid, account.as_deref())?),
            Some((_, group)) => Some(self.group(text, group)?),
        };
        Ok(Owner { uid, gid })
    }

    fn own_group(&self, text: &str, user: &str, uid: u32, account: Option<&[&str]>) -> Result<u32, String> {
        let by_name = account.and_then(|entry| number(entry, 3));
        let by_uid = || {
            let entry = self.passwd.lines().map(fields).find(|entry| number(entry, 2) == Some(uid))?;
            number(&entry, 3)
        };
        by_name.or_else(by_uid).ok_or_else(|| {
            format!("--owner {text:?}: user {user:?} has no group in /etc/passwd; give USER:GROUP")
        })
    }

    fn group(&self, text: &str, group: &str) -> Result<u32, String> {
        let entry = self.group.lines().map(fields).find(|entry| entry.first() == Some(&group));
        let gid = match &entry {
            Some(entry) => number(entry, 2),
            None => group.parse().ok(),
        };
        gid.ok_or_else(|| {
            format!("--owner {text:?}: there is no group {group:?} in /etc/group; give its number instead")
        })
    }
}

fn fields(line: &str) -> Vec<&str> {
    line.split(':').collect()
}

fn number(entry: &[&str], field: usize) -> Option<u32> {
    entry.get(field).and_then(|text| text.parse().ok())
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn accounts() -> Accounts {
        Accounts {
            passwd: "root:x:0:0:root:/root:/bin/sh\netcd:x:998:997::/var/lib/etcd:/usr/sbin/nologin\n\
                     123:x:5:6::/:/bin/false\nbroken:x\n"
                .to_owned(),
            group: "root:x:0:\netcd:x:997:\nadm:x:4:syslog\n".to_owned(),
        }
    }

    #[rstest]
    #[case("etcd", 998, None)]
    #[case("etcd:", 998, Some(997))]
    #[case("998:", 998, Some(997))]
    #[case("etcd:adm", 998, Some(4))]
    #[case("etcd:1234", 998, Some(1234))]
    #[case("4000", 4000, None)]
    #[case("4000:4001", 4000, Some(4001))]
    #[case("123:", 5, Some(6))]
    #[case("0:etcd", 0, Some(997))]
    fn known(#[case] text: &str, #[case] uid: u32, #[case] gid: Option<u32>) {
        assert_eq!(accounts().resolve(text), Ok(Owner { uid, gid }));
    }

    #[rstest]
    #[case("", "the user is missing")]
    #[case(":etcd", "the user is missing")]
    #[case("nobody", "no user \"nobody\"")]
    #[case("broken", "no user \"broken\"")]
    #[case("etcd:wheel", "no group \"wheel\"")]
    #[case("4000:", "give USER:GROUP")]
    #[case("-1:0", "no user \"-1\"")]
    #[case("4294967296:0", "no user")]
    fn unknown(#[case] text: &str, #[case] expected: &str) {
        let message = accounts().resolve(text).expect_err("nobody has this name");
        assert!(message.contains(expected), "{message}");
    }
}
