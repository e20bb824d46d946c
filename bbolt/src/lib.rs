//! bbolt
