#!/usr/bin/env bash
# Installs what the tests need (as root, with apt) and runs them all. What cannot be had is said
# aloud and its tests are skipped.
set -euo pipefail
cd "$(dirname "$0")"
FUZZ_SECONDS=${FUZZ_SECONDS:-20}
# Nothing is built twice here, and what would help with that takes gigabytes.
export CARGO_INCREMENTAL=${CARGO_INCREMENTAL:-0}

step() { printf '\n== %s\n' "$*"; }

step 'what the tests need'
packages=()
need() { command -v "$1" >/dev/null || packages+=("$2"); }
need qemu-img qemu-utils
need 7zz 7zip
need qcowmount libqcow-utils
need vhdimount libvhdi-utils
need vmdkmount libvmdk-utils
need fusermount fuse
need mkfs.xfs xfsprogs
need cryptsetup cryptsetup-bin
need xorriso xorriso
need genisoimage genisoimage
need zstd zstd
need xz xz-utils
need python3 python3
need curl curl
need pcre-config libpcre3-dev
need lz4 lz4
need bsdtar libarchive-tools
need xmllint libxml2-utils
need openssl openssl
need cpio cpio
need mkfs.btrfs btrfs-progs
need sfdisk fdisk
need sgdisk gdisk
need openssl openssl
need g++ g++
need cc gcc
need strace strace
need mkfs.ext4 e2fsprogs
need mkfs.vfat dosfstools
need mcopy mtools
need mkfs.exfat exfatprogs
need mkfs.ntfs ntfs-3g
need mksquashfs squashfs-tools
need pvcreate lvm2
need blkid util-linux
need valgrind valgrind
if [ ${#packages[@]} -gt 0 ]; then
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        export DEBIAN_FRONTEND=noninteractive
        apt-get update -qq
        for package in "${packages[@]}"; do
            apt-get install -y -qq --no-install-recommends "$package" >/dev/null ||
                echo "not to be had: $package; its tests are skipped"
        done
    else
        echo "not there, and not root: ${packages[*]}; their tests are skipped"
    fi
fi

# The inspector that image services use, to compare ours with; the version that the table is of.
if command -v python3 >/dev/null && [ ! -x target/oslo/bin/python3 ]; then
    python3 -m venv target/oslo &&
        target/oslo/bin/python3 -m pip install --quiet oslo.utils==10.2.0 cryptography ||
        echo 'not to be had: oslo.utils; its test is skipped'
fi

# A real image service with its identity service, for uploads and downloads: some minutes once.
images_api=${DISKWRIGHT_SHARED:-../shared}/images_api
if [ -x "$images_api/setup.sh" ] && command -v python3 >/dev/null; then
    ROOT=${IMAGES_API:-$HOME/.cache/images-api} bash "$images_api/setup.sh" ||
        echo 'not to be had: Glance and Keystone; their tests are skipped'
fi

command -v cargo-fuzz >/dev/null || cargo install --locked --quiet cargo-fuzz
command -v cargo-deny >/dev/null || cargo install --locked --quiet cargo-deny

step 'format'
cargo fmt --all --check
step 'lint'
cargo clippy --workspace --all-targets --quiet -- -D warnings
step 'documentation'
RUSTDOCFLAGS='-D warnings' cargo doc --workspace --no-deps --quiet
step 'dependencies: licences, sources, advisories'
cargo deny --all-features check licenses bans sources
if cargo deny fetch db; then
    cargo deny --all-features check advisories
else
    echo 'skipped: the list of advisories is not to be had'
fi
step 'tests'
cargo test --workspace
step 'the base under an interpreter that sees undefined behaviour'
# Libraries of C and mapped files are nothing for it: these parts are without.
if cargo +nightly miri --version >/dev/null 2>&1 ||
    rustup component add miri --toolchain nightly >/dev/null 2>&1; then
    MIRIFLAGS=-Zmiri-disable-isolation cargo +nightly miri test --quiet -p formats --lib -- \
        base::model base::storage::span base::storage::slice base::storage::memory \
        base::storage::pieces base::storage::window base::manifest base::tar
else
    echo 'skipped: there is no miri here'
fi
step 'instructions that fixed work takes'
cargo bench --quiet --bench instructions
step 'a parser that attacks'
cargo clippy --workspace --all-targets --features broken --quiet -- -D warnings
cargo test --features broken --test sandbox
step 'fuzz targets, briefly'
# The same inputs for the same code: what is new is found by longer runs, not by whoever comes next.
SEED=${SEED:-2026} fuzz/run.sh "$FUZZ_SECONDS"
step 'all passed'
