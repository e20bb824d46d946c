//! The document in a real browser: nothing overflows on a desk or a phone, in light or dark, nothing is missing or complained of, and what
//! is printed is there.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Read as _;
use std::path::Path;
use std::process::{Command, Output};

use super::{Data, gather, html, made_up};
use crate::{AddOptions, Case, add};

/// The browser; `ETCD_RESCUE_BROWSER` names another one of its family.
fn browser() -> String {
    std::env::var("ETCD_RESCUE_BROWSER").unwrap_or_else(|_| "chromium".to_owned())
}

/// Runs the browser on `page`, which lies in `dir`.
#[track_caller]
fn run(dir: &Path, page: &str, flags: &[&str]) -> Output {
    let profile = dir.join("profile");
    let output = Command::new("timeout")
        .args(["--kill-after=5", "90"])
        .arg(browser())
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"])
        .args(["--hide-scrollbars", "--enable-logging=stderr", "--window-size=1280,900"])
        .arg(format!("--user-data-dir={}", profile.display()))
        .args(flags)
        .arg(format!("file://{}", dir.join(page).display()))
        .env("HOME", dir)
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{page} {flags:?}: {}: {told}", output.status);
    assert!(!told.contains("CONSOLE"), "{page} {flags:?}: the browser complains: {told}");
    output
}

/// Measures a document, and says what is wrong with it to the page around it. It looks for what sticks out of the window, what is cut off by a
/// box that does not scroll where that is no label of a picture, pictures without a size or a text alternative, text on a ground of
/// nearly its own colour, and references to elsewhere.
const MEASURE: &str = r"
const wrong = [];
const root = document.documentElement;
if (root.scrollWidth > innerWidth) wrong.push('the page is ' + root.scrollWidth + ' wide');
const name = e => e.tagName + '.' + (e.getAttribute('class') || '') + ' ' + e.textContent.slice(0, 60);
for (const e of document.body.querySelectorAll('*')) {
  if (e.closest('svg') && e.tagName !== 'svg' || e.closest('.on')) continue;
  const box = e.getBoundingClientRect();
  if (box.width && (box.right > innerWidth + 3 || box.left < -3)) wrong.push('sticks out: ' + name(e));
  if (!e.closest('.tiles, .track') && e.tagName !== 'svg' && e.clientWidth && e.scrollWidth > e.clientWidth + 3) wrong.push('overflows: ' + name(e));
}
const pictures = [...document.querySelectorAll('svg:not(.defs)')];
for (const e of pictures) {
  const box = e.getBoundingClientRect();
  if (box.width < 100 || box.height < 10) wrong.push('a picture of no size: ' + name(e));
  if (!e.getAttribute('aria-label')) wrong.push('a picture without words');
  const inked = [...e.querySelectorAll('rect')].filter(r => r.getBoundingClientRect().width > 0);
  const painted = inked.filter(r => !['none', 'rgba(0, 0, 0, 0)', 'rgb(0, 0, 0)'].includes(getComputedStyle(r).fill));
  if (painted.length !== inked.length) wrong.push('a shape without a colour in ' + e.getAttribute('aria-label').slice(0, 60));
}
const light = c => { const [r, g, b] = c.match(/[\d.]+/g).map(n => n / 255).map(n => n <= .03928 ? n / 12.92 : ((n + .055) / 1.055) ** 2.4);
  return .2126 * r + .7152 * g + .0722 * b; };
const ground = e => { for (; e; e = e.parentElement) { const c = getComputedStyle(e).backgroundColor; if (!/, 0\)$/.test(c)) return c; } return 'rgb(255, 255, 255)'; };
for (const e of document.querySelectorAll('p, td, th, dd, dt, li, code, caption, figcaption, .badge, h1, h2, h3')) {
  const [one, other] = [light(getComputedStyle(e).color), light(ground(e))].sort((a, b) => b - a);
  if ((one + .05) / (other + .05) < 4.5) wrong.push('hard to read: ' + name(e));
}
for (const e of document.querySelectorAll('[src], [href]')) {
  const to = e.getAttribute('src') || e.getAttribute('href');
  if (!to.startsWith('#') || !document.getElementById(to.slice(1))) wrong.push('leads to ' + to);
}
if (!CSS.supports('color', 'red') || getComputedStyle(document.body).maxWidth === 'none') wrong.push('there is no style');
const dark = matchMedia('(prefers-color-scheme: dark)').matches;
if (dark !== light(ground(document.body)) < .2) wrong.push('dark is ' + dark + ', the ground ' + ground(document.body));
parent.postMessage({ name: location.pathname.split('/').pop(), width: innerWidth, dark, pictures: pictures.length, wrong: wrong.slice(0, 20) }, '*');
";

/// Widths of windows: a phone, a tablet, a desk.
const WIDTHS: [u32; 3] = [390, 800, 1280];

/// A page that shows each of `documents` at every width, for which no window of a browser is small enough, and writes down what it is
/// told of them.
fn around(documents: &[&str]) -> String {
    let mut page = "<!DOCTYPE html><title>none</title><pre id=\"told\"></pre><script>const all = []; addEventListener('message', m => { \
                    all.push(m.data); document.getElementById('told').textContent = JSON.stringify(all) })</script>"
        .to_owned();
    for name in documents {
        for width in WIDTHS {
            let style = format!("border:0;width:{width}px;height:800px");
            page += &format!("<iframe src=\"{name}\" style=\"{style}\"></iframe>");
        }
    }
    page
}

fn documents() -> [(&'static str, Data); 4] {
    [
        ("typical.html", made_up::typical()),
        ("hostile.html", made_up::hostile()),
        ("empty.html", Data::default()),
        ("real.html", real()),
    ]
}

/// Three members of a real cluster, of which one has lost pages in the middle of its records, and a real database of another version.
fn real() -> Data {
    let dir = tempfile::tempdir().unwrap();
    testdata::unpack("3.5.30/cluster3/data.tar.zst", dir.path());
    let other = testdata::snapshot_file("3.6.14", "s3-final", dir.path());
    let db = dir.path().join("n3/member/snap/db");
    let mut bytes = fs::read(&db).unwrap();
    for page in [35, 62, 96] {
        bytes[page * 4096..][..4096].fill(0);
    }
    fs::write(&db, bytes).unwrap();
    let path = dir.path().join("real.case");
    Case::create(&path, "etcd-rescue case new real.case").unwrap();
    for name in ["n1", "n2", "n3"] {
        add(&path, name, &dir.path().join(name), &AddOptions::default(), &()).unwrap();
    }
    add(&path, "3.6", &other, &AddOptions::default(), &()).unwrap();
    let data = gather(&Case::open(&path).unwrap(), &()).unwrap();
    assert!(data.partings.iter().any(|pair| pair.diff.unreadable > 0), "{:?}", data.partings);
    assert!(data.sources.iter().any(|of| !of.source.findings.is_empty()));
    data
}

#[test]
#[ignore = "needs a browser: scripts/test.sh runs it"]
fn oracle_browser_finds_nothing_wrong_at_any_width_light_or_dark() {
    let dir = tempfile::tempdir().unwrap();
    let mut names = Vec::new();
    let mut pictures = BTreeMap::new();
    for (name, data) in documents() {
        let report = html(&data, None);
        fs::write(dir.path().join("report.html"), &report).unwrap();
        // As it is: not a word on the console, and no script that a key brought along has run.
        let shown = run(dir.path(), "report.html", &["--dump-dom"]);
        let dom = String::from_utf8_lossy(&shown.stdout).into_owned();
        assert!(dom.contains("<h1>") && dom.contains("<title>Case report: "), "{name}: {dom}");
        // A copy that may run the one script which measures it.
        let policy = report.lines().find(|line| line.contains("Content-Security-Policy")).unwrap();
        let copy =
            report.replace(policy, "").replace("</body>", &format!("<script>{MEASURE}</script></body>"));
        fs::write(dir.path().join(name), copy).unwrap();
        names.push(name);
        pictures.insert(name, report.matches("role=\"img\"").count());
    }
    fs::write(dir.path().join("around.html"), around(&names)).unwrap();
    for (scheme, dark) in [(1, false), (0, true)] {
        let scheme = format!("--blink-settings=preferredColorScheme={scheme}");
        // Its clock goes as fast as it can, so that the answers of the inner documents are there.
        let shown = run(dir.path(), "around.html", &[&scheme, "--virtual-time-budget=60000", "--dump-dom"]);
        let dom = String::from_utf8_lossy(&shown.stdout).into_owned();
        let told =
            dom.split("<pre id=\"told\">").nth(1).and_then(|rest| rest.split("</pre>").next()).unwrap();
        let told: Vec<serde_json::Value> = serde_json::from_str(told).unwrap_or_else(|_| panic!("{dom}"));
        let mut measured = BTreeSet::new();
        for told in &told {
            let name = told["name"].as_str().unwrap();
            assert_eq!(told["wrong"], serde_json::json!([]), "{told}");
            assert_eq!(told["dark"], dark, "{told}");
            assert_eq!(told["pictures"], pictures[name], "{told}");
            measured.insert((name, told["width"].as_u64().unwrap()));
        }
        let all = names.iter().flat_map(|name| WIDTHS.map(|width| (*name, u64::from(width))));
        assert_eq!(measured, all.collect());
    }
}

#[test]
#[ignore = "needs a browser: scripts/test.sh runs it"]
fn oracle_browser_prints_all_of_it() {
    let dir = tempfile::tempdir().unwrap();
    for (name, data) in documents().into_iter().filter(|(name, _)| *name != "empty.html") {
        fs::write(dir.path().join("report.html"), html(&data, None)).unwrap();
        let pdf = dir.path().join("report.pdf");
        run(
            dir.path(),
            "report.html",
            &["--no-pdf-header-footer", &format!("--print-to-pdf={}", pdf.display())],
        );
        let bytes = fs::read(&pdf).unwrap();
        assert!(bytes.starts_with(b"%PDF-") && bytes.trim_ascii_end().ends_with(b"%%EOF"), "{name}");
        let (pages, shapes) = drawn(&bytes);
        // Every page has its number, and most have much more: blank paper has been printed before.
        assert!(pages >= 2, "{name}: {pages} pages");
        assert!(shapes > pages * 40, "{name}: {shapes} pieces of text on {pages} pages");
        if name == "typical.html" {
            assert!(pages < 25, "{pages} pages");
        }
    }
}

/// How many pages a PDF has, and how many pieces of text are drawn on them.
fn drawn(pdf: &[u8]) -> (usize, usize) {
    let (mut pages, mut shapes, mut rest) = (0, 0, pdf);
    while let Some(at) = rest.windows(6).position(|window| window == b"stream") {
        let body = &rest[at + 6..];
        let body = body.strip_prefix(b"\r\n").or(body.strip_prefix(b"\n")).unwrap_or(body);
        let end = body.windows(9).position(|window| window == b"endstream").unwrap_or(body.len());
        let mut plain = Vec::new();
        // What is no Flate stream is a font or a picture.
        let _ = flate2::read::ZlibDecoder::new(&body[..end]).read_to_end(&mut plain);
        let text = String::from_utf8_lossy(&plain);
        let here = text.matches("Tj").count() + text.matches("TJ").count();
        pages += usize::from(here > 0);
        shapes += here;
        rest = &body[end.min(body.len())..];
        rest = rest.get(9..).unwrap_or_default();
    }
    (pages, shapes)
}
