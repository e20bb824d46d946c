//! etcd-rescue
fn main() {}
