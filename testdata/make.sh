#!/bin/sh
# Makes testdata/good anew. Wants qemu-img, qemu-io (qemu-utils), cryptsetup (cryptsetup-bin),
# genisoimage, xorriso and zstd; what they write may differ a little from version to version, what
# it means does not.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"

# keep FORMAT NAME: packs the file `image`, and notes what is in the disk as qemu-img reads it.
keep() {
    folder="$here/good/$1"
    mkdir -p "$folder"
    case "$1" in vhd) theirs=vpc ;; *) theirs=$1 ;; esac
    if [ "$1" = raw ]; then cp image disk; else qemu-img convert -f "$theirs" -O raw image disk; fi
    zstd -19 --quiet --force image -o "$folder/$2.zst"
    {
        echo "format = \"$1\""
        echo "disk_size = $(stat -c %s disk)"
        echo "sha256 = \"$(sha256sum disk | cut -d' ' -f1)\""
        for name in $(qemu-img snapshot -f "$1" -l image 2>/dev/null | awk 'NR > 2 { print $2 }'); do
            # `convert -l` keeps the current size; going back does not.
            cp image back
            qemu-img snapshot -a "$name" back
            qemu-img convert -f "$1" -O raw back then
            echo "snapshot.$name = \"$(sha256sum then | cut -d' ' -f1)\""
        done
    } > "$folder/$2.toml"
    rm -f image disk back then
}

# A disk of 300 KiB: text, a hole, a run of one byte, an odd end.
content() {
    seq 1 20000 | head -c 30000 > plain
    truncate -s 180000 plain
    yes Z | tr -d '\n' | head -c 90000 >> plain
    truncate -s 307000 plain
    echo end >> plain
    truncate -s 307200 plain
}

# put NAME OPTIONS [FLAGS]: the content as a qcow2 image with these options.
put() {
    name=$1 options=$2
    shift 2
    qemu-img convert -f raw -O qcow2 -o "$options" "$@" plain image
    keep qcow2 "$name"
}

content
put v3 compat=1.1
put v2 compat=0.10
put clusters-512 cluster_size=512
put clusters-4k cluster_size=4k
put zlib compression_type=zlib -c
put zlib-512 cluster_size=512 -c
put zlib-v2 compat=0.10 -c
put zstd compression_type=zstd -c
put zstd-4k compression_type=zstd,cluster_size=4k -c
put extended-l2 extended_l2=on,cluster_size=16k
put extended-l2-zlib extended_l2=on,cluster_size=16k -c
put refcounts-1 refcount_bits=1,cluster_size=4k
put refcounts-64 refcount_bits=64,cluster_size=4k
put lazy-refcounts lazy_refcounts=on
put preallocated preallocation=metadata,cluster_size=4k

# Clusters that were written and then made zeros: their old bytes stay in the file.
qemu-img create -q -f qcow2 -o cluster_size=4k image 256k
qemu-io -f qcow2 -c 'write -P 0x11 0 64k' -c 'write -z 8k 12k' -c 'write -z -u 32k 8k' image > log
keep qcow2 zeros-with-room

# Subclusters of all three kinds in one cluster.
qemu-img create -q -f qcow2 -o extended_l2=on,cluster_size=64k image 512k
qemu-io -f qcow2 -c 'write -P 0x21 2k 6k' -c 'write -P 0x22 70k 4k' -c 'write -z 4k 2k' \
    -c 'write -P 0x23 300k 64k' image > log
keep qcow2 subclusters

# Three states, of which one had another size.
qemu-img create -q -f qcow2 -o cluster_size=4k image 128k
qemu-io -f qcow2 -c 'write -P 0x31 0 20k' image > log
qemu-img snapshot -c first image
qemu-io -f qcow2 -c 'write -P 0x32 10k 20k' image > log
qemu-img snapshot -c second image
qemu-img resize -q -f qcow2 image 192k
qemu-io -f qcow2 -c 'write -P 0x33 120k 40k' image > log
qemu-img snapshot -c third image
qemu-io -f qcow2 -c 'write -P 0x34 0 4k' image > log
keep qcow2 snapshots

# Bitmaps, one of them filled.
qemu-img create -q -f qcow2 -o cluster_size=4k image 128k
qemu-img bitmap --add --granularity 4k -f qcow2 image changes
qemu-io -f qcow2 -c 'write -P 0x41 0 20k' image > log
qemu-img bitmap --add --granularity 64k -f qcow2 image 'since monday'
keep qcow2 bitmaps

# Grown and shrunk after it was written.
qemu-img convert -f raw -O qcow2 -o cluster_size=4k plain image
qemu-img resize -q -f qcow2 image 10M
qemu-img resize -q --shrink -f qcow2 image 200k
keep qcow2 resized

# QEMU's older formats.
qemu-img convert -f raw -O qcow plain image
keep qcow plain-v1
qemu-img create -q -f qcow image 256k
qemu-io -f qcow -c 'write -c -P 0x51 0 4k' -c 'write -c -P 0x52 20k 4k' -c 'write -P 0x53 40k 6k' \
    -c 'write -c -s plain 64k 4k' -c 'write -c -P 0x54 252k 4k' image > log
keep qcow zlib-v1
qemu-img convert -f raw -O qed plain image
keep qed qed
qemu-img create -q -f qed -o cluster_size=4k,table_size=2 image 10M
qemu-io -f qed -c 'write -P 0x51 0 30k' -c 'write -P 0x52 9M 5k' -c 'write -z 8k 12k' image > log
keep qed qed-zeros-4k

qemu-img convert -f raw -O vdi plain image
keep vdi dynamic
qemu-img convert -f raw -O vdi -o static=on plain image
keep vdi static
# Blocks that were written out of order, and a disk that ends inside a block.
qemu-img create -q -f vdi image 3500k
qemu-io -f vdi -c 'write -P 0x51 3200k 20k' -c 'write -P 0x52 5k 2k' -c 'write -z 5k 1k' image > log
keep vdi out-of-order

# Small ones, too: the fuzzers begin with them.
qemu-img create -q -f vdi image 3500k
keep vdi no-blocks

qemu-img create -q -f vpc -o force_size=on image 7000k
keep vhd no-blocks
qemu-img create -q -f vpc -o subformat=fixed,force_size=on image 20k
qemu-io -f vpc -c 'write -P 0x63 3k 5k' image > log
keep vhd small
qemu-img convert -f raw -O vpc plain image
keep vhd dynamic
qemu-img convert -f raw -O vpc -o subformat=fixed plain image
keep vhd fixed
qemu-img create -q -f vpc -o force_size=on image 7000k
qemu-io -f vpc -c 'write -P 0x61 6500k 20k' -c 'write -P 0x62 5k 2k' image > log
keep vhd out-of-order
# lock NAME SIZE HEAD: packs a container of that size, of which only the header is kept: its keys
# do not pack, and are not looked at.
lock() {
    head -c "$3" image > head
    truncate -s "$(stat -c %s image)" head
    mkdir -p "$here/good/luks"
    zstd -19 --quiet --force head -o "$here/good/luks/$1.zst"
    printf 'format = "luks"\ndisk_size = %s\nkey = "lost"\n' "$2" > "$here/good/luks/$1.toml"
    rm -f image head
}
qemu-img create -q --object secret,id=s,data=x -f luks -o key-secret=s,iter-time=10 image 64k
lock luks-1 65536 4096
truncate -s 352k image
printf x | cryptsetup luksFormat -q --type luks2 --pbkdf pbkdf2 --pbkdf-force-iterations 1000 \
    --label 'a label' --luks2-keyslots-size 256k --offset 576 image -
lock luks-2 65536 32768

# ploop: as qemu-img writes it under another name; with clusters that are no power of two; and with
# the older magic, whose table counts sectors.
ploop() {
    qemu-img convert -f parallels -O raw image disk
    mkdir -p "$here/good/ploop"
    zstd -19 --quiet --force image -o "$here/good/ploop/$1.zst"
    printf 'format = "ploop"\ndisk_size = %s\nsha256 = "%s"\n' "$(stat -c %s disk)" \
        "$(sha256sum disk | cut -d' ' -f1)" > "$here/good/ploop/$1.toml"
    rm -f image disk
}
qemu-img convert -f raw -O parallels plain image
ploop ploop
qemu-img convert -f raw -O parallels -o cluster_size=4k plain image
ploop ploop-4k
qemu-img convert -f raw -O parallels -o cluster_size=28672 plain image
ploop ploop-56-sectors
qemu-img convert -f raw -O parallels -o cluster_size=512 plain image
printf WithoutFreeSpace | dd of=image conv=notrunc status=none
ploop ploop-old-512

# lacking NUMBER NAME: as qemu-img writes them, the regions lack a mark, twice in each table, and the
# headers differ; of fixed images the last block is cut short.
lacking() {
    keep vhdx "$2"
    echo "corruptions = $1" >> "$here/good/vhdx/$2.toml"
}
qemu-img convert -f raw -O vhdx -o block_size=1M plain image
lacking 5 vhdx-dynamic
qemu-img convert -f raw -O vhdx -o block_size=1M,subformat=fixed,block_state_zero=off plain image
lacking 6 vhdx-fixed
qemu-img create -q -f vhdx -o block_size=1M image 3500k
qemu-io -f vhdx -c 'write -P 0x71 3400k 20k' -c 'write -P 0x72 5k 2k' image > log
lacking 5 vhdx-out-of-order
# VMware's format: as needed, with grains of zeros noted down, out of order, and as a stream.
qemu-img convert -f raw -O vmdk plain image
keep vmdk sparse
qemu-img create -q -f vmdk -o zeroed_grain=on image 1000k
qemu-io -f vmdk -c 'write -P 0x51 900k 20k' -c 'write -P 0x52 5k 150k' -c 'write -z 64k 64k' image > log
keep vmdk sparse-zeros
qemu-img convert -f raw -O vmdk -o subformat=streamOptimized plain image
keep vmdk stream-of-qemu
qemu-img create -q -f vmdk image 35M
keep vmdk no-grains

# ISO volumes: as genisoimage and xorriso write them, with a moment that does not change. What the
# disk is, is the file.
SOURCE_DATE_EPOCH=1000000000
export SOURCE_DATE_EPOCH
mkdir -p tree/'a folder'/deeper
echo hello > tree/'a folder'/deeper/'grüße an alle.txt'
ln -s 'a folder'/deeper tree/link
seq 1 500 > tree/numbers
head -c 4096 plain > tree/boot.img
find tree -exec touch -h -d @1000000000 {} +
volume() {
    mkdir -p "$here/good/iso"
    zstd -19 --quiet --force image -o "$here/good/iso/$1.zst"
    printf 'format = "iso"\ndisk_size = %s\nsha256 = "%s"\n' "$(stat -c %s image)" \
        "$(sha256sum image | cut -d' ' -f1)" > "$here/good/iso/$1.toml"
    rm -f image
}
genisoimage -quiet -no-pad -V PLAIN -o image tree 2> log
volume iso-plain
genisoimage -quiet -no-pad -J -R -V joliet -b boot.img -no-emul-boot -c boot.cat -o image tree 2> log
volume iso-joliet-rock-ridge
genisoimage -quiet -no-pad -J -udf -V bridge -o image tree 2> log
volume iso-udf
xorriso -as mkisofs -quiet -R -V HYBRID -b boot.img -no-emul-boot -boot-load-size 4 \
    -boot-info-table -eltorito-alt-boot -e numbers -no-emul-boot -isohybrid-gpt-basdat \
    -partition_offset 16 -o image tree 2> log
volume iso-hybrid

# packed FORMAT NAME DISK-SIZE: an archive, and the disk that is read out of it.
packed() {
    mkdir -p "$here/good/$1"
    zstd -19 --quiet --force image -o "$here/good/$1/$2.zst"
    printf 'format = "%s"\ndisk_size = %s\nsha256 = "%s"\n' "$1" "$3" \
        "$(sha256sum disk.raw | cut -d' ' -f1)" > "$here/good/$1/$2.toml"
    rm -rf image
}
archive() {
    dialect=$1
    shift
    tar --format="$dialect" --mtime=@0 --owner=107 --group=107 --numeric-owner "$@"
}
sum() { sha256sum "$1" | cut -d' ' -f1; }
# Google's: plain, and with holes.
cp plain disk.raw
archive gnu -cf image disk.raw
packed gcp gcp 307200
archive gnu -Scf image disk.raw
packed gcp gcp-sparse 307200
# Container images, as docker saves them and as an OCI layout, with a disk in the layer below.
mkdir -p below/disk above/etc saved/below saved/above oci/blobs/sha256
cp disk.raw below/disk/disk.img
echo hello > above/etc/motd
archive ustar -C below -cf saved/below/layer.tar disk/disk.img
archive ustar -C above -cf saved/above/layer.tar etc/motd
printf '{"architecture":"amd64","os":"linux","rootfs":{"diff_ids":["sha256:%s","sha256:%s"]}}' \
    "$(sum saved/below/layer.tar)" "$(sum saved/above/layer.tar)" > config
config=$(sum config)
cp config "saved/$config.json"
printf '[{"Config":"%s.json","RepoTags":["vm:1"],"Layers":%s}]' "$config" \
    '["below/layer.tar","above/layer.tar"]' > saved/manifest.json
archive ustar -C saved -cf image "$config.json" below/layer.tar above/layer.tar manifest.json
packed docker docker-save 0
blob() {
    cp "$2" "oci/blobs/sha256/$(sum "$2")"
    printf '{"mediaType":"application/vnd.oci.image.%s","digest":"sha256:%s","size":%s}' \
        "$1" "$(sum "$2")" "$(stat -c %s "$2")"
}
below=$(blob layer.v1.tar saved/below/layer.tar)
above=$(blob layer.v1.tar saved/above/layer.tar)
printf '{"config":%s,"layers":[%s,%s]}' "$(blob config.v1+json config)" "$below" "$above" > list
printf '{"schemaVersion":2,"manifests":[%s]}' "$(blob manifest.v1+json list)" > oci/index.json
printf '{"imageLayoutVersion":"1.0.0"}' > oci/oci-layout
archive ustar --sort=name -C oci -cf image blobs index.json oci-layout
packed docker docker-oci 0
rm -rf below above saved oci

# A machine in an archive, with a disk of qemu-img's; and the text of one by itself.
qemu-img convert -f raw -O vmdk -o subformat=streamOptimized plain machine-disk1.vmdk
cat > machine.ovf << TEXT
<?xml version="1.0"?>
<Envelope ovf:version="1.0" xmlns="http://schemas.dmtf.org/ovf/envelope/1"
    xmlns:ovf="http://schemas.dmtf.org/ovf/envelope/1" xmlns:rasd="http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_ResourceAllocationSettingData"
    xmlns:vmw="http://www.vmware.com/schema/ovf">
  <References>
    <File ovf:href="machine-disk1.vmdk" ovf:id="file1" ovf:size="$(stat -c %s machine-disk1.vmdk)"/>
  </References>
  <DiskSection>
    <Info>Disks</Info>
    <Disk ovf:capacity="300" ovf:capacityAllocationUnits="byte * 2^10" ovf:diskId="disk1"
        ovf:fileRef="file1"
        ovf:format="http://www.vmware.com/interfaces/specifications/vmdk.html#streamOptimized"/>
  </DiskSection>
  <VirtualSystem ovf:id="machine">
    <Info>A machine</Info>
    <OperatingSystemSection ovf:id="96" vmw:osType="debian10_64Guest"/>
    <VirtualHardwareSection>
      <Item><rasd:InstanceID>1</rasd:InstanceID><rasd:ResourceType>3</rasd:ResourceType>
        <rasd:VirtualQuantity>2</rasd:VirtualQuantity></Item>
      <Item><rasd:InstanceID>2</rasd:InstanceID><rasd:ResourceType>6</rasd:ResourceType></Item>
      <Item><rasd:AddressOnParent>0</rasd:AddressOnParent>
        <rasd:HostResource>ovf:/disk/disk1</rasd:HostResource>
        <rasd:InstanceID>3</rasd:InstanceID><rasd:Parent>2</rasd:Parent>
        <rasd:ResourceType>17</rasd:ResourceType></Item>
      <vmw:Config ovf:required="false" vmw:key="firmware" vmw:value="efi"/>
    </VirtualHardwareSection>
  </VirtualSystem>
</Envelope>
TEXT
for file in machine.ovf machine-disk1.vmdk; do
    echo "SHA256($file)= $(sha256sum $file | cut -d' ' -f1)"
done > machine.mf
# machine FORMAT NAME MORE: packs the file image, whose disk is the content.
machine() {
    mkdir -p "$here/good/$1"
    zstd -19 --quiet --force image -o "$here/good/$1/$2.zst"
    printf 'format = "%s"\ndisk_size = %s\nsha256 = "%s"\n%s' "$1" "$(stat -c %s plain)" \
        "$(sha256sum plain | cut -d' ' -f1)" "$3" > "$here/good/$1/$2.toml"
    rm -f image
}
tar --format=ustar --owner=0 --group=0 --mtime=@1000000000 -cf image \
    machine.ovf machine.mf machine-disk1.vmdk
machine ova ova-one-disk ''
tar --format=posix --owner=0 --group=0 --mtime=@1000000000 \
    --pax-option=delete=atime,delete=ctime -cf image ./machine-disk1.vmdk ./machine.mf ./machine.ovf
machine ova ova-descriptor-last ''
cp machine.ovf image
machine ovf ovf-by-itself 'beside = "machine-disk1.vmdk"
'

cp plain image
keep raw plain
head -c 1000 plain > image
keep raw a-thousand-bytes
: > image
keep raw empty
du -sk "$here/good" | cut -f1
