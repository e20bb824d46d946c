//! The document as a whole.

use std::path::Path;

use super::{Data, Redact, html, made_up};

/// `ETCD_RESCUE_REPORTS` names a directory in which to leave what the tests make, for eyes.
fn keep(name: &str, report: &str) {
    if let Some(dir) = std::env::var_os("ETCD_RESCUE_REPORTS") {
        std::fs::write(Path::new(&dir).join(name), report).unwrap();
    }
}

/// Tags as they are opened and closed, with text and comments left out.
fn tags(report: &str) -> impl Iterator<Item = &str> {
    report.split('<').skip(1).map(|rest| rest.split(['>', ' ', '\n']).next().unwrap())
}

/// Every element is closed by its own end, in order.
#[track_caller]
fn assert_well_formed(report: &str) {
    const VOID: [&str; 6] = ["!DOCTYPE", "meta", "br", "rect", "line", "img"];
    let style = report.find("<style>").unwrap()..report.find("</style>").unwrap();
    let report = format!("{}{}", &report[..style.start + 7], &report[style.end..]);
    let mut open = Vec::new();
    for tag in tags(&report) {
        match tag.strip_prefix('/') {
            Some(name) => assert_eq!(open.pop(), Some(name), "after {open:?}"),
            None if VOID.contains(&tag.trim_end_matches('/')) => {}
            None => open.push(tag),
        }
    }
    assert_eq!(open, [""; 0]);
}

#[test]
fn a_report_is_whole_and_refers_to_nothing() {
    for (name, data) in
        [("typical", made_up::typical()), ("hostile", made_up::hostile()), ("empty", Data::default())]
    {
        let report = html(&data, None);
        keep(&format!("{name}.html"), &report);
        assert_well_formed(&report);
        for tag in tags(&report) {
            assert!(
                !["script", "img", "link", "iframe", "object", "embed", "base", "form"].contains(&tag),
                "{name}: {tag}"
            );
        }
        let css = &report[report.find("<style>").unwrap()..report.find("</style>").unwrap()];
        assert!(!css.contains("@import") && css.matches("url(").count() == css.matches("url(#").count());
        let pictures = report.matches("<svg").count();
        let told = report.matches("role=\"img\" aria-label=\"").count();
        assert_eq!(pictures, told + 1, "{name}: a picture without a text alternative");
        assert!(!report.contains('\u{202e}') && !report.contains('\0'));
    }
}

#[test]
fn what_is_left_out_is_nowhere() {
    let (secret, hash) = {
        let data = made_up::typical();
        let version = data.partings[1].samples[0].one.clone().unwrap();
        (String::from_utf8(version.value.unwrap()).unwrap(), version.value_hash.unwrap())
    };
    let of = |redact| html(&made_up::typical(), redact);
    let whole = of(None);
    for part in
        [secret.as_str(), &hash, "Running", "/registry/secrets/default/token-x2", "page 296 calls itself"]
    {
        assert!(whole.contains(part), "{part}");
    }
    let secrets = of(Some(Redact::Secrets));
    assert!(!secrets.contains(&secret) && !secrets.contains(&hash));
    assert!(secrets.contains("Running") && secrets.contains("/registry/secrets/"));
    let values = of(Some(Redact::Values));
    assert!(!values.contains(&secret) && !values.contains(&hash) && !values.contains("Running"));
    assert!(values.contains("/registry/secrets/default/token-x2"));
    let keys = of(Some(Redact::Keys));
    assert!(!keys.contains(&secret) && !keys.contains("Running") && !keys.contains("/registry"));
    assert!(!keys.contains("page 296 calls itself"));
    for report in [&secrets, &values, &keys] {
        assert!(report.contains("left out of this report"));
    }
    // The same key has the same number on both sides, another one another.
    assert_eq!(keys.matches("<code>key 1</code>").count(), 1);
    assert_eq!(keys.matches("<code>key 2</code>").count(), 2);
}

#[test]
fn the_same_data_makes_the_same_report() {
    assert_eq!(html(&made_up::hostile(), Some(Redact::Keys)), html(&made_up::hostile(), Some(Redact::Keys)));
}
