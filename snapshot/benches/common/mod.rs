//! What every bench of this crate asks for.

/// How large the generated file is, in bytes: one GiB, or what `ETCD_RESCUE_BENCH_BYTES` says.
pub(crate) fn bench_bytes() -> u64 {
    match std::env::var("ETCD_RESCUE_BENCH_BYTES") {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("ETCD_RESCUE_BENCH_BYTES={text}: not a number")),
        Err(_) => 1 << 30,
    }
}
