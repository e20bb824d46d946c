//! Lines of a page: a name in a column, and what is to be said of it.

use crate::shown::shown;

/// Width of the column of names.
const NAMES: usize = 13;

/// Lines under construction.
#[derive(Default)]
pub(crate) struct Page(String);

impl Page {
    /// A line about `name`.
    pub(crate) fn line(&mut self, name: &str, text: &str) {
        self.0 += &format!("  {name:NAMES$}  {}\n", shown(text));
    }

    /// One more line about what the last one is about.
    pub(crate) fn more(&mut self, text: &str) {
        self.line("", text);
    }

    /// The line above others.
    pub(crate) fn title(&mut self, text: &str) {
        self.0 += &format!("{}\n", shown(text));
    }

    /// All lines.
    pub(crate) fn text(self) -> String {
        self.0
    }
}
