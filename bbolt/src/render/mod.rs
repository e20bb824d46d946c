//! Pages, keys and values as text, as the bbolt tool prints them, and as JSON.
//!
//! What is written may be larger than memory: everything goes to a writer, piece by piece. [`ordered`] lets all cores format
//! and one put out in order. JSON has bytes that are UTF-8 as strings; others in hexadecimal, under the name with `_hex`
//! behind it.

pub mod bytes;
pub mod hexdump;
pub mod inspect;
pub mod keys;
pub mod listing;
pub mod loose;
pub mod map;
pub mod ordered;
pub mod page;
