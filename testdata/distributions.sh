#!/usr/bin/env bash
# Builds images of three distributions as root, with debootstrap, each with another partition table,
# file system and firmware, and prints what is in them, for comparison with what is found:
#   distributions.sh FOLDER [MIRROR [UBUNTU_MIRROR]]
# FOLDER gets bookworm.img (GPT, ext4, EFI system partition and BIOS boot partition: both),
# trixie.img (MBR, xfs, /boot on ext4: bios) and jammy.img (GPT, btrfs packed by zstd, in a
# subvolume: uefi). They take 4 GiB, half of it holes; trees that are there from before are used
# again.
set -euo pipefail
folder=$(realpath "$1")
mirror=${2:-http://deb.debian.org/debian}
ubuntu=${3:-http://archive.ubuntu.com/ubuntu}
PATH=$PATH:/usr/sbin:/sbin
for tool in debootstrap sfdisk losetup mkfs.ext4 mkfs.xfs mkfs.btrfs mkfs.vfat mcopy grub-mkimage; do
    command -v "$tool" >/dev/null || { echo "$tool is not there" >&2; exit 1; }
done

tree() { # NAME SUITE PACKAGES
    [ -e "$folder/$1/etc/os-release" ] || {
        rm -rf "${folder:?}/$1"
        debootstrap --variant=minbase ${3:+--include="$3"} "$2" "$folder/$1" "$mirror" \
            >"$folder/$1.log" 2>&1 || echo "debootstrap of $1 was not content, see $1.log" >&2
    }
}

# A file system of an image, from its byte START, LEN long, as a device.
device() { losetup --show -f -o "$2" --sizelimit "$3" "$1"; }

# Fills a file system that mkfs makes with a tree.
fill() { # IMAGE START LEN TREE MKFS...
    local image=$1 start=$2 len=$3 from=$4 loop mount
    shift 4
    loop=$(device "$image" "$start" "$len")
    "$@" "$loop" >/dev/null
    mount=$(mktemp -d)
    mount "$loop" "$mount"
    cp -a "$from/." "$mount/"
    umount "$mount"
    rmdir "$mount"
    losetup -d "$loop"
}

# An EFI system partition with a boot loader where firmware looks for one.
esp() { # IMAGE START LEN
    local loop
    loop=$(device "$1" "$2" "$3")
    mkfs.vfat -n ESP "$loop" >/dev/null
    grub-mkimage -O x86_64-efi -p /EFI/debian -o "$folder/grub.efi" part_gpt fat ext2 normal
    mmd -i "$loop" ::EFI ::EFI/BOOT
    mcopy -i "$loop" "$folder/grub.efi" ::EFI/BOOT/BOOTX64.EFI
    losetup -d "$loop"
}

mib=$((1 << 20))

echo '== bookworm: GPT, ext4, both firmwares'
tree bookworm bookworm systemd-sysv,linux-image-cloud-amd64,cloud-init,qemu-guest-agent
image=$folder/bookworm.img
rm -f "$image"
truncate -s 1500M "$image"
sfdisk -q "$image" <<'TABLE'
label: gpt
start=2048, size=1M, type=21686148-6449-6E6F-744E-656564454649
size=100M, type=uefi
type=4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709, name=root
TABLE
esp "$image" $((2 * mib)) $((100 * mib))
fill "$image" $((102 * mib)) $((1397 * mib)) "$folder/bookworm" mkfs.ext4 -q -L root
grub-mkimage -O i386-pc -p '(hd0,gpt3)/boot/grub' -o "$folder/core.img" biosdisk part_gpt ext2
dd if=/usr/lib/grub/i386-pc/boot.img of="$image" bs=440 count=1 conv=notrunc status=none
dd if="$folder/core.img" of="$image" bs=1M seek=1 conv=notrunc status=none

echo '== trixie: MBR, xfs, /boot of its own, bios'
tree trixie trixie ''
image=$folder/trixie.img
rm -f "$image"
truncate -s 1000M "$image"
sfdisk -q "$image" <<'TABLE'
label: dos
start=2048, size=100M, type=83, bootable
type=83
TABLE
mkdir -p "$folder/boot"
cp "$folder"/bookworm/boot/{vmlinuz,config}-* "$folder/boot/"
fill "$image" $mib $((100 * mib)) "$folder/boot" mkfs.ext4 -q -L boot
fill "$image" $((101 * mib)) $((899 * mib)) "$folder/trixie" mkfs.xfs -q -L root
grub-mkimage -O i386-pc -p '(hd0,msdos1)/grub' -o "$folder/core.img" biosdisk part_msdos ext2
dd if=/usr/lib/grub/i386-pc/boot.img of="$image" bs=440 count=1 conv=notrunc status=none
dd if="$folder/core.img" of="$image" bs=512 seek=1 conv=notrunc status=none

echo '== jammy: GPT, btrfs with a subvolume, uefi'
# Only unpacked, and nothing of it is ever run: its keys need not be here.
[ -e "$folder/jammy/etc/os-release" ] || {
    debootstrap --foreign --no-check-gpg --variant=minbase \
        --include=cloud-init,linux-image-virtual jammy "$folder/jammy" "$ubuntu" \
        >"$folder/jammy.log" 2>&1
    for package in "$folder"/jammy/var/cache/apt/archives/*.deb; do
        dpkg-deb --fsys-tarfile "$package" | tar -x -C "$folder/jammy" --keep-directory-symlink
    done
    rm -f "$folder"/jammy/var/cache/apt/archives/*.deb
}
image=$folder/jammy.img
rm -f "$image"
truncate -s 1500M "$image"
sfdisk -q "$image" <<'TABLE'
label: gpt
start=2048, size=64M, type=uefi
type=linux, name=root
TABLE
esp "$image" $mib $((64 * mib))
loop=$(device "$image" $((65 * mib)) $((1434 * mib)))
mkfs.btrfs -q -L root "$loop" >/dev/null
mount=$(mktemp -d)
mount -o compress-force=zstd:1 "$loop" "$mount"
btrfs -q subvolume create "$mount/@"
cp -a "$folder/jammy/." "$mount/@/"
umount "$mount"
rmdir "$mount"
losetup -d "$loop"

for name in bookworm trixie jammy; do
    echo "== what is in $name"
    sfdisk -d "$folder/$name.img"
    cat "$folder/$name/etc/os-release"
    ls "$folder/$name/boot" "$folder/$name/usr/lib/modules" 2>/dev/null || true
    for part in usr/bin/cloud-init usr/sbin/qemu-ga; do
        if [ -e "$folder/$name/$part" ]; then echo "$part is there"; else echo "no $part"; fi
    done
done
