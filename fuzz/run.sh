#!/bin/sh
# Fuzzes every target for SECONDS (60 by default), with the images of testdata to begin from; says
# how many executions there were, how much of the code they reached, and what was found. JOBS (1) is
# how many targets run at once, TARGETS which (all but `differential`, which needs qemu-img), TIMEOUT
# (10) how many seconds an input may take: more of them where the machine is busy. SEED (0: another
# each time) is where chance begins: with the same one the same inputs come in the same order.
set -eu
cd "$(dirname "$0")/.."
seconds=${1:-60}
jobs=${JOBS:-1}
all=$(sed -n 's/^path = "fuzz_targets\/\(.*\)\.rs"$/\1/p' fuzz/Cargo.toml)
targets=${TARGETS:-$(echo "$all" | grep -v differential)}
# What is freed is kept for a while, to find who still uses it: within the limit below.
export ASAN_OPTIONS="quarantine_size_mb=32${ASAN_OPTIONS:+:$ASAN_OPTIONS}"
# Sanitizers are a feature of nightly compilers; another one is told to act as if it were one.
if cargo +nightly --version >/dev/null 2>&1; then
    fuzzer='cargo +nightly fuzz'
else
    fuzzer='cargo fuzz'
    export RUSTC_BOOTSTRAP=1
fi
$fuzzer build -O -a >&2

# An image without its zeros, as fuzz/unfold.rs reads it.
fold() {
    perl -e 'binmode STDIN; binmode STDOUT; local $/; my $image = <STDIN>; print "\xffSP\n";
        for (my $at = 0; $at < length $image; $at += 512) {
            (my $sector = substr($image, $at, 512)) =~ s/\0+$//;
            print pack("Vv", $at / 512, length $sector), $sector
                if length $sector || $at + 512 >= length $image;
        }'
}

mkdir -p fuzz/corpus
cat fuzz/dictionaries/*.dict > fuzz/corpus/dictionary

# Every text in the images of testdata that describes a machine or a disk.
texts() {
    for packed in testdata/good/*/*.zst testdata/bad/*/*.zst; do
        [ -e "$packed" ] || continue
        name=$(basename "$(dirname "$packed")")-$(basename "$packed" .zst)
        zstd -dcq "$packed" | head -c 65536 | perl -0777 -ne \
            'print $1 if /(# Disk Desc[^\0]*|<\?xml[^\0]*|<[\w:]*Envelope[^\0]*)/s' > "$1/seed-$name"
        [ -s "$1/seed-$name" ] || rm "$1/seed-$name"
    done
}

# Small disks with a system on them, as far as there are programs here that make them.
disks() {
    PATH=$PATH:/usr/sbin:/sbin
    work=$(mktemp -d)
    mkdir -p "$work/tree/etc" "$work/tree/boot" "$work/tree/usr/bin"
    printf 'ID=debian\nVERSION_ID="12"\n' > "$work/tree/etc/os-release"
    ln -s os-release "$work/tree/etc/link"
    printf 'MZ' > "$work/tree/boot/vmlinuz-6.1.0"
    make() { # NAME SIZE COMMAND...
        name=$1
        command -v "$3" >/dev/null || return 0
        truncate -s "$2" "$work/disk"
        shift 2
        "$@" "$work/disk" > "$work/said" 2>&1 || true
        fold < "$work/disk" > "$out/seed-$name"
        [ "$(stat -c %s "$out/seed-$name")" -le 262144 ] || rm "$out/seed-$name"
        rm "$work/disk"
    }
    out=$1
    make ext4 2M mkfs.ext4 -q -O ^metadata_csum -d "$work/tree"
    make ext3 1M mkfs.ext3 -q -b 1024 -N 32 -d "$work/tree"
    make inline 1M mkfs.ext4 -q -N 32 -O inline_data,^metadata_csum -d "$work/tree"
    make vfat 1M mkfs.vfat -n ESP
    make vfat32 1M mkfs.vfat -F 32 -s 1
    make exfat 4M mkfs.exfat -L name
    make swap 64K mkswap -L swap
    make gpt 1M sgdisk -n 1:64:+64K -t 1:ef00 -n 2:256:+64K
    make btrfs 8M mkfs.btrfs -q -M -m single --rootdir "$work/tree"
    rm -r "$work"
}

for target in $targets; do
    mkdir -p "fuzz/corpus/$target" "fuzz/artifacts/$target"
    # A list of writes is no image: that target finds its own way.
    [ "$target" != write ] || continue
    if [ "$target" = descriptor ] || [ "$target" = ovf ]; then
        texts "fuzz/corpus/$target"
        continue
    fi
    if [ "$target" = wrapper ]; then
        for packed in testdata/good/raw/*.zst testdata/good/vmdk/*.zst; do
            seed="fuzz/corpus/$target/seed-$(basename "$packed" .zst)"
            cp "$packed" "$seed.zst"
            for packer in gzip bzip2 "xz --block-size=8192" "zstd -q -19" lz4; do
                command -v "${packer%% *}" >/dev/null || continue
                zstd -dcq "$packed" | head -c 100000 | $packer -c > "$seed.${packer%% *}"
            done
        done
        continue
    fi
    if [ "$target" = contents ]; then
        disks "fuzz/corpus/$target"
        continue
    fi
    for packed in testdata/good/*/*.zst testdata/bad/*/*.zst; do
        [ -e "$packed" ] || continue
        seed="fuzz/corpus/$target/seed-$(basename "$(dirname "$packed")")-$(basename "$packed" .zst)"
        # What comes before the image says how a stream is cut.
        cut() { [ "$target" != ingest ] || printf '\000\001\020\377'; }
        { cut; zstd -dcq "$packed"; } > "$seed"
        # What is larger than an input may be has its zeros left out, or is left out itself.
        [ "$(stat -c %s "$seed")" -le 262144 ] || { cut; zstd -dcq "$packed" | fold; } > "$seed"
        [ "$(stat -c %s "$seed")" -le 262144 ] || rm "$seed"
    done
done

# What was found before is tried first: a refcount table over a refcount block, and a list of writes
# at which zlib-rs 0.6 panics.
printf '\012\000\221\377\377\266\062\276\377\156\266\266\377\377\377\006\012' > fuzz/corpus/write/found-1
printf '\000\377\377\377\377\000\357\015\061\331\015\357\377\377\156\377\377\015\331\357\377\377\156\310\377' \
    > fuzz/corpus/write/found-2

fuzz() {
    status=0
    $fuzzer run -O -a "$1" -- -max_total_time="$seconds" -max_len=262144 \
        -seed="${SEED:-0}" -dict=fuzz/corpus/dictionary -rss_limit_mb=512 -timeout="${TIMEOUT:-10}" -print_final_stats=1 > "fuzz/artifacts/$1.log" 2>&1 || status=$?
    runs=$(sed -n 's/^stat::number_of_executed_units: *//p' "fuzz/artifacts/$1.log")
    found=$(find "fuzz/artifacts/$1" -type f | wc -l)
    reached=$(sed -n 's/.* cov: \([0-9]*\) .*/\1/p' "fuzz/artifacts/$1.log" | tail -n 1)
    echo "$1: ${runs:-no} executions, ${reached:-no} edges, $found findings (exit $status)"
    # What was found is told whole: where this ran may be gone when somebody reads it.
    [ "$status" = 0 ] || {
        grep -a -A 24 'panicked at\|ERROR: ' "fuzz/artifacts/$1.log" | cut -c 1-160 || true
        for input in "fuzz/artifacts/$1"/*; do
            [ ! -f "$input" ] || { echo "$input, gzip in base64:"; gzip -9c "$input" | base64; }
        done
    }
    [ "$status" = 0 ]
}

failed=0
set -- $targets
while [ $# -gt 0 ]; do
    pids=
    for _ in $(seq "$jobs"); do
        [ $# -gt 0 ] || break
        fuzz "$1" &
        pids="$pids $!"
        shift
    done
    for pid in $pids; do wait "$pid" || failed=1; done
done
exit $failed
