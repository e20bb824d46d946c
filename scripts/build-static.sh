#!/usr/bin/env bash
# Builds etcd-rescue as one static binary for this machine's architecture, proves that it needs nothing else,
# and prints its path, size and digest.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
target=$(uname -m)-unknown-linux-gnu
# Without --target the flags would reach proc-macros too, which cannot be static.
RUSTFLAGS="${RUSTFLAGS:-} -C target-feature=+crt-static" \
    cargo build --release --locked -p etcd-rescue --target "$target"
binary=${CARGO_TARGET_DIR:-target}/$target/release/etcd-rescue

die() { echo "build-static: $*" >&2; exit 1; }

# Says "statically linked" (and exits 0) for static-pie, "not a dynamic executable" (and exits 1) for plain static.
linked=$(LC_ALL=C ldd "$binary" 2>&1 || true)
case $linked in
    *"statically linked"* | *"not a dynamic executable"*) ;;
    *) die "$binary is not static: $linked" ;;
esac
if command -v readelf >/dev/null; then
    if readelf -lW "$binary" | grep -q INTERP; then die "$binary asks for a dynamic loader"; fi
fi

version=$(env -i "$binary" --version </dev/null) || die "$binary does not run without an environment"
bare=$(mktemp -d)
trap 'rm -rf "$bare"' EXIT
cp "$binary" "$bare/etcd-rescue"
if [ "$(id -u)" = 0 ] && command -v chroot >/dev/null; then
    # Nothing there but the binary: no libc, no /etc, no /proc, no /dev.
    [ "$(env -i "$(command -v chroot)" "$bare" /etcd-rescue --version </dev/null)" = "$version" ] ||
        die "$binary does not run in an empty root directory"
    where="runs in an empty root directory"
else
    where="not tried in an empty root directory (needs root)"
fi

echo "version $version"
echo "path    $binary"
echo "size    $(stat -c %s "$binary") bytes"
echo "sha256  $(sha256sum "$binary" | cut -d' ' -f1)"
echo "static  $where"
