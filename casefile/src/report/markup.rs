//! HTML, written so that nothing out of the data can be markup.

use std::fmt::{self, Display, Write as _};

use sha2::{Digest as _, Sha256};

/// Text that is ready to stand in a document: escaped, or made here.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Html(String);

impl Html {
    /// What the program itself has written.
    pub(super) fn of(markup: impl Into<String>) -> Self {
        Self(markup.into())
    }

    /// Text from anywhere.
    pub(super) fn text(text: impl Display) -> Self {
        Self(Text(text).to_string())
    }

    /// Text whose every character counts: keys, hashes, paths, commands.
    pub(super) fn code(text: impl Display) -> Self {
        Self(format!("<code>{}</code>", Text(text)))
    }

    /// The same on lines of their own.
    pub(super) fn lines(pieces: impl IntoIterator<Item = Self>) -> Self {
        let mut all = Self::default();
        for piece in pieces {
            if !all.0.is_empty() {
                all.0 += "<br>";
            }
            all.0 += &piece.0;
        }
        all
    }

    /// This and `more` behind it.
    pub(super) fn and(mut self, more: &Self) -> Self {
        self.0 += &more.0;
        self
    }
}

impl Display for Html {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Text that is escaped where it is shown: markup, control characters, and those that turn the direction of what follows.
pub(super) struct Text<T>(pub(super) T);

impl<T: Display> Display for Text<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(Escaping(f), "{}", self.0)
    }
}

struct Escaping<'a, 'b>(&'a mut fmt::Formatter<'b>);

impl fmt::Write for Escaping<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for c in text.chars() {
            match c {
                '&' => self.0.write_str("&amp;")?,
                '<' => self.0.write_str("&lt;")?,
                '>' => self.0.write_str("&gt;")?,
                '"' => self.0.write_str("&quot;")?,
                '\'' => self.0.write_str("&#39;")?,
                _ if is_unfit(c) => write!(self.0, "{}", c.escape_default())?,
                _ => self.0.write_char(c)?,
            }
        }
        Ok(())
    }
}

/// Characters that a document may not hold, that nobody sees, or that turn the direction of what follows.
fn is_unfit(c: char) -> bool {
    c.is_control()
        || matches!(
            c,
            '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}'
                | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}'
        )
        || (u32::from(c) & 0xfffe == 0xfffe)
}

/// Bytes as text where they are text, else with escapes for what is none.
pub(super) fn bytes(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        out += chunk.valid();
        for byte in chunk.invalid() {
            // Writing to a string does not fail.
            let _ = write!(out, "\\x{byte:02x}");
        }
    }
    out
}

/// Longest name that is shown as it is, in bytes, and what is shown of a longer one.
const MOST_NAME: usize = 240;
const HEAD_OF_NAME: usize = 160;

/// The name of a key: as [`bytes`], but of a long one its beginning, its length and its hash, by which it is told from others.
pub(super) fn name(name: &[u8]) -> String {
    match name.get(..HEAD_OF_NAME) {
        Some(head) if name.len() > MOST_NAME => {
            let digest: [u8; 32] = Sha256::digest(name).into();
            let digest = snapshot::integrity::Digest(digest).to_string();
            let digest = digest.get(..16).unwrap_or_default();
            format!("{} … ({} bytes, SHA-256 {digest}…)", bytes(head), name.len())
        }
        _ => bytes(name),
    }
}

/// Text from a source, of which a report shows so much at most.
pub(super) fn cut(text: &str) -> Html {
    match text.char_indices().nth(MOST_NAME) {
        Some((at, _)) => Html::text(text.get(..at).unwrap_or_default()).and(&Html::text(" …")),
        None => Html::text(text),
    }
}

/// A column of a table.
#[derive(Debug, Clone)]
pub(super) struct Column {
    /// Its head.
    pub(super) head: String,
    /// Whether it holds numbers.
    pub(super) is_number: bool,
}

impl Column {
    pub(super) fn text(head: impl Into<String>) -> Self {
        Self { head: head.into(), is_number: false }
    }

    pub(super) fn number(head: impl Into<String>) -> Self {
        Self { head: head.into(), is_number: true }
    }
}

/// A document as it grows.
#[derive(Debug, Default)]
pub(super) struct Page {
    out: String,
    sections: Vec<(String, String)>,
    tables: usize,
    figures: usize,
}

impl Page {
    /// Adds `markup`.
    pub(super) fn push(&mut self, markup: impl Display) {
        // Writing to a string does not fail.
        let _ = writeln!(self.out, "{markup}");
    }

    /// Begins a section; gives its number.
    pub(super) fn section(&mut self, id: &str, title: &str) {
        if !self.sections.is_empty() {
            self.push("</section>");
        }
        self.sections.push((id.to_owned(), title.to_owned()));
        let number = self.sections.len();
        self.push(format_args!("<section id=\"{id}\">\n<h2><span class=\"n\">{number}</span> {title}</h2>"));
    }

    pub(super) fn paragraph(&mut self, text: &Html) {
        self.push(format_args!("<p>{text}</p>"));
    }

    /// The number of the next figure.
    pub(super) fn next_figure(&mut self) -> usize {
        self.figures += 1;
        self.figures
    }

    /// A table with a number and a caption; the first cell of each row is its head. Nothing when there are no rows.
    pub(super) fn table(&mut self, caption: &Html, columns: &[Column], rows: &[Vec<Html>]) {
        if rows.is_empty() {
            return;
        }
        self.tables += 1;
        let number = self.tables;
        self.push(format_args!(
            "<table id=\"table-{number}\">\n<caption><b>Table {number}.</b> {caption}</caption>"
        ));
        let mut head = String::from("<thead><tr>");
        for column in columns {
            let class = if column.is_number { " class=\"num\"" } else { "" };
            let _ = write!(head, "<th scope=\"col\"{class}>{}</th>", Text(&column.head));
        }
        self.push(format_args!("{head}</tr></thead>\n<tbody>"));
        for row in rows {
            let mut line = String::from("<tr>");
            for (index, (cell, column)) in row.iter().zip(columns).enumerate() {
                let class = if column.is_number { " class=\"num\"" } else { "" };
                let head = Text(&column.head);
                // The inner element keeps what a cell holds together where a phone shows its head beside it.
                let _ = if index == 0 {
                    write!(line, "<th scope=\"row\"{class}>{cell}</th>")
                } else {
                    write!(line, "<td{class} data-head=\"{head}\"><div>{cell}</div></td>")
                };
            }
            self.push(format_args!("{line}</tr>"));
        }
        self.push("</tbody></table>");
    }

    /// The body, and its sections: id and title.
    pub(super) fn finish(mut self) -> (String, Vec<(String, String)>) {
        if !self.sections.is_empty() {
            self.push("</section>");
        }
        (self.out, self.sections)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_out_of_the_data_is_markup() {
        let hostile = "<script>alert('1')</script>\u{202e}\u{0}\u{1b}&\"\u{200b}\u{feff}";
        let shown = Html::text(hostile).to_string();
        insta::assert_snapshot!(
            shown,
            @r"&lt;script&gt;alert(&#39;1&#39;)&lt;/script&gt;\u{202e}\u{0}\u{1b}&amp;&quot;\u{200b}\u{feff}"
        );
        assert_eq!(Html::text("größe/κ 日本").to_string(), "größe/κ 日本");
    }

    #[test]
    fn bytes_that_are_no_text_are_told_in_hexadecimal() {
        assert_eq!(bytes(b"a\xff\xc3(\0"), "a\\xff\\xc3(\0");
    }

    #[test]
    fn of_long_names_the_beginning_is_shown() {
        let long = |last: u8| [vec![b'k'; 100_000], vec![last]].concat();
        assert_eq!(name(&long(b'a')[..MOST_NAME]).len(), MOST_NAME);
        let (one, other) = (name(&long(b'a')), name(&long(b'b')));
        assert!(
            one.starts_with("kkk") && one.contains("(100001 bytes, SHA-256 ") && one.len() < 250,
            "{one}"
        );
        assert_ne!(one, other);
        assert_eq!(cut(&"é".repeat(9_000)).to_string().chars().count(), MOST_NAME + 2);
    }
}
