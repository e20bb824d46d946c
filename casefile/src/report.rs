//! One self-contained HTML file about a case: a pure function of [`Data`].
//!
//! The document holds no script and refers to nothing outside of itself, and says so to the browser (a content security policy that allows its
//! own style and nothing else), so that no key, path or message in it can do anything. Pictures are inline SVG with a text alternative and a
//! table that says the same; what is text is text, in the fonts of the reader's system.

#[cfg(test)]
mod browser_tests;
mod data;
mod findings;
mod gather;
mod lanes;
#[cfg(test)]
mod made_up;
mod markup;
mod members;
mod page_map;
mod parting;
mod prefixes;
mod redact;
mod sections;
mod space;
#[cfg(test)]
mod tests;
mod treemap;
mod words;
mod write;

pub use data::{Bin, CaseFacts, Data, Examined, Pair, Prefix, Sample, Seal, Version};
pub use gather::gather;
pub use redact::{Redact, is_secret};
pub use write::{Written, write};

use markup::{Page, Text};

/// The style, in light, dark, on a phone and on paper.
const STYLE: &str = include_str!("report/style.css");

/// The report on `data`, without what `redact` says.
#[must_use]
pub fn html(data: &Data, redact: Option<Redact>) -> String {
    let redacted = redact.map(|redact| redact::redacted(data.clone(), redact));
    let data = redacted.as_ref().unwrap_or(data);
    let mut page = Page::default();
    sections::summary(data, &mut page);
    sections::examined(data, &mut page);
    members::section(data, &mut page);
    sections::history(data, &mut page);
    parting::section(data, &mut page);
    sections::databases(data, &mut page);
    findings::section(data, &mut page);
    sections::custody(data, &mut page);
    sections::reading(redact, &mut page);
    let (body, list) = page.finish();
    let mut out = String::with_capacity(STYLE.len() + body.len() + 4096);
    out += "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
            <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n\
            <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
            <meta name=\"color-scheme\" content=\"light dark\">\n";
    out += &format!(
        "<title>Case report: {}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n",
        Text(&data.case.name)
    );
    out += DEFINITIONS;
    out += &sections::header(data, redact, &list);
    out += "<main>\n";
    out += &body;
    out += "</main>\n";
    out += &format!(
        "<footer>Case report on {}, written by {}. Every number above is text; every picture is followed by a table that says the same.</footer>\n</body>\n</html>\n",
        Text(&data.case.name),
        Text(&data.case.tool)
    );
    out
}

/// Patterns that pictures fill with.
const DEFINITIONS: &str = "<svg class=\"defs\" aria-hidden=\"true\"><defs>\
    <pattern id=\"hatched\" width=\"9\" height=\"9\" patternUnits=\"userSpaceOnUse\" patternTransform=\"rotate(45)\">\
    <line class=\"hatch-line\" x1=\"0\" y1=\"0\" x2=\"0\" y2=\"9\"/></pattern>\
    <pattern id=\"hatched-soft\" width=\"7\" height=\"7\" patternUnits=\"userSpaceOnUse\" patternTransform=\"rotate(45)\">\
    <line stroke=\"var(--line)\" stroke-width=\"3\" x1=\"0\" y1=\"0\" x2=\"0\" y2=\"7\"/></pattern></defs></svg>\n";
