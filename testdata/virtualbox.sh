#!/bin/sh
# Asks the strictest judges what they see in the images that we write: VirtualBox and VMware's open
# tool, which Debian has in sid only. Too heavy for every run of the tests: it is run by hand, before
# a release. Wants root, debootstrap, a network, and 2 GB in FOLDER, where the sid stays for the next
# time. Says of every image whether they see the disk that was put in; fails if one does not.
#
#   cargo build --release && testdata/virtualbox.sh FOLDER
set -eu
[ $# = 1 ] || { sed -n '2,8s/^# \{0,1\}//p' "$0"; exit 2; }
ours=$(cd "$(dirname "$0")/.." && pwd)/target/release/diskwright
ours=${DISKWRIGHT:-$ours}
sid=$1

if [ ! -x "$sid/usr/bin/vbox-img" ]; then
    debootstrap --variant=minbase --components=main,contrib sid "$sid"
    printf '#!/bin/sh\nexit 101\n' > "$sid/usr/sbin/policy-rc.d"
    chmod +x "$sid/usr/sbin/policy-rc.d"
    DEBIAN_FRONTEND=noninteractive chroot "$sid" \
        apt-get install -y -qq --no-install-recommends virtualbox open-vmdk
fi
mountpoint -q "$sid/proc" || mount -t proc proc "$sid/proc"
work="$sid/images"
mkdir -p "$work"
trap 'rm -rf "$work"' EXIT
failed=0

# A disk of so many sectors: text, holes, a run of one byte, an odd end.
disk() {
    seq 1 200000 | head -c 1300000 > "$work/disk"
    truncate -s $(($1 * 512 / 2)) "$work/disk"
    yes Z | tr -d '\n' | head -c 900000 >> "$work/disk"
    truncate -s $(($1 * 512 - 4)) "$work/disk"
    printf 'end.' >> "$work/disk"
}

tell() {
    if [ "$2" = 0 ]; then echo "ok      $1"; else echo "FAILED  $1"; failed=1; fi
}

# judge NAME FORMAT OPTIONS: VirtualBox has to give the disk back, byte for byte.
judge() {
    rm -f "$work"/image* "$work/back"
    # The disk with the zeros that the format forces on it.
    padded=$("$ours" convert -q --output json -f raw -O "$2" -o "$3" "$work/disk" "$work/$1" |
        sed -n 's/.*"virtual-size": \([0-9]*\).*/\1/p')
    status=0
    chroot "$sid" vbox-img convert --srcfilename "/images/$1" --dstfilename /images/back \
        --dstformat RAW > "$work/said" 2>&1 || status=1
    cp --sparse=always "$work/disk" "$work/right"
    truncate -s "$padded" "$work/right"
    cmp -s "$work/right" "$work/back" || status=1
    tell "VirtualBox: $2 $3, $padded bytes" $status
    [ $status = 0 ] || sed 's/^/        /' "$work/said"
}

# refuse NAME FORMAT OPTIONS: VirtualBox does not know the like, and has to say so. With version 1 in
# the header, which it takes, it would read grains of zeros as bytes of the descriptor.
refuse() {
    rm -f "$work"/image* "$work/back"
    "$ours" convert -q -f raw -O "$2" -o "$3" "$work/disk" "$work/$1"
    status=0
    chroot "$sid" vbox-img convert --srcfilename "/images/$1" --dstfilename /images/back \
        --dstformat RAW > "$work/said" 2>&1 && status=1
    tell "VirtualBox refuses: $2 $3" $status
}

# judge_vmdk OPTIONS: the open tool has to understand it. It does not come to an end with any image,
# ours or qemu-img's, in which the last grain holds data and the disk ends inside of it: there it is
# not asked.
judge_vmdk() {
    status=0
    [ $(($(stat -c %s "$work/disk") % 65536)) = 0 ] || return 0
    timeout 60 chroot "$sid" vmdk-convert -i /images/image.vmdk > "$work/said" 2>&1 || status=1
    tell "open-vmdk -i: $1" $status
    [ $status = 0 ] || sed 's/^/        /' "$work/said"
}

# manage ARGUMENTS: VirtualBox's own command, in the sid.
manage() { HOME=/images/home timeout 300 chroot "$sid" VBoxManage "$@" > "$work/said" 2>&1; }

# judge_ova OPTIONS: VirtualBox has to import the machine, and give its disk back; it has to refuse
# what has one byte of another value, in every file of the archive, and so do we.
judge_ova() {
    rm -rf "$work"/image* "$work/back" "$work/machine"
    mkdir -p "$work/home" "$work/machine"
    # shellcheck disable=SC2086
    "$ours" convert -q -f raw -O ova --name image $1 "$work/disk" "$work/image.ova"
    status=0
    "$ours" ova verify -q "$work/image.ova" || status=1
    manage import /images/image.ova --vsys 0 --vmname image --basefolder /images/machine || status=1
    chroot "$sid" vbox-img convert --srcfilename /images/machine/image/image-disk1.vmdk \
        --dstfilename /images/back --dstformat RAW > "$work/said" 2>&1 || status=1
    cmp -s "$work/disk" "$work/back" || status=1
    manage unregistervm image --delete || true
    tell "VirtualBox imports: ova $1" $status
    [ $status = 0 ] || sed 's/^/        /' "$work/said"
    size=$(stat -c %s "$work/image.ova")
    # In the description, in a digest, in the middle of the disk.
    digest=$(grep -abo 'SHA[0-9]*(image.ovf)= ' "$work/image.ova" | head -1 | cut -d: -f1)
    for at in 700 $((digest + 30)) $((size / 2)); do
        cp "$work/image.ova" "$work/image-bad.ova"
        byte=$(dd if="$work/image.ova" bs=1 skip=$at count=1 status=none | od -An -tu1)
        # shellcheck disable=SC2059
        printf "\\$(printf %o $((byte ^ 1)))" |
            dd of="$work/image-bad.ova" bs=1 seek=$at conv=notrunc status=none
        status=0
        "$ours" ova verify -q "$work/image-bad.ova" > /dev/null 2>&1 && status=1
        manage import /images/image-bad.ova --vsys 0 --vmname bad --basefolder /images/machine &&
            status=1
        manage unregistervm bad --delete || true
        tell "VirtualBox and we refuse: ova $1, another byte at $at" $status
    done
}

disk 83968
for options in '--hardware virtualbox-2.2 --manifest sha1 --os debian --nic NAT' \
    '--cpus 2 --memory 2G --firmware efi --os ubuntu' '--manifest sha512'; do
    judge_ova "$options"
done
for sectors in 83971 16384 8390656; do
    disk $sectors
    for options in static=off static=on block_size=128k static=on,block_size=16M; do
        judge image.vdi vdi $options
    done
    for options in subformat=dynamic subformat=fixed subformat=dynamic,block_size=512k \
        subformat=dynamic,force_size=off; do
        judge image.vhd vhd $options
    done
    for options in subformat=dynamic subformat=fixed subformat=dynamic,block_size=1M \
        subformat=dynamic,block_size=256M logical_sector_size=4096 log_size=8M; do
        judge image.vhdx vhdx $options
    done
    for options in subformat=monolithicSparse subformat=monolithicFlat \
        subformat=twoGbMaxExtentSparse subformat=twoGbMaxExtentFlat subformat=streamOptimized \
        subformat=monolithicSparse,adapter_type=lsilogic,hwversion=13; do
        judge image.vmdk vmdk $options
        case $options in *Flat | *Extent*) ;; *) judge_vmdk $options ;; esac
    done
    refuse image.vmdk vmdk subformat=monolithicSparse,zeroed_grain=on
done
exit $failed
